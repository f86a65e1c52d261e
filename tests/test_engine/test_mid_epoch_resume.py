"""Runs with a checkpoint every two iterations end the same, wherever they are interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from ctvlm.engine import CheckpointError, CTVLMRunner, set_resume

STEPS = 10  # two epochs of five batches


class InterruptHook(Hook):
    """Raises at a call of a stage, counted from 1."""

    def __init__(self, stage: str, call: int, priority: str) -> None:
        self.priority = priority
        self.calls = 0

        def stop(*args, **kwargs):
            self.calls += 1
            if self.calls == call:
                raise KeyboardInterrupt

        setattr(self, stage, stop)


LOOPS = {
    "epoch": dict(type="EpochBasedTrainLoop", max_epochs=2, val_interval=1),
    "iter": dict(type="IterBasedTrainLoop", max_iters=STEPS, val_interval=3),
}


@pytest.fixture
def config(toy_config):
    def make(folder, loop, workers, sampler="DefaultSampler"):
        cfg = toy_config(
            folder,
            train_dataloader__dataset__length=40,
            train_dataloader__num_workers=workers,
            train_dataloader__sampler__type=sampler,
            default_hooks__checkpoint__by_epoch=False,
            default_hooks__checkpoint__interval=2,
            log_processor__by_epoch=loop == "epoch",
        )
        cfg.train_cfg = dict(LOOPS[loop])
        cfg.param_scheduler = [dict(type="CosineAnnealingLR", T_max=STEPS, by_epoch=False)]
        return cfg

    return make


def end(cfg) -> tuple[dict, dict]:
    """What a finished run leaves: plain values and tensors."""
    folder = Path(cfg.work_dir)
    content = torch.load(folder / f"iter_{STEPS}.pth", weights_only=True)
    hub = content["message_hub"]
    plain = dict(
        files=sorted(path.name for path in folder.glob("*.pth")),
        hidden=sorted(path.name for path in folder.glob(".*")),
        info={key: value for key, value in hub["runtime_info"].items() if "best" in key},
        losses=hub["log_scalars"]["train/loss"]["values"],
        metrics=json.loads((folder / "results.json").read_text())["metrics"],
    )
    return plain, dict(weights=content["state_dict"], optimizer=content["optimizer"]["state"])


def interrupt(cfg, stage, call, priority="LOWEST"):
    runner = CTVLMRunner.from_cfg(cfg)
    runner.register_hook(InterruptHook(stage, call, priority))
    with pytest.raises(KeyboardInterrupt):
        runner.train()


def assert_resumes(config, whole, *args, interruptions):
    for interruption in interruptions:
        cfg = config("killed", *args)
        set_resume(cfg, "auto")
        interrupt(cfg, *interruption)
    cfg = config("killed", *args)
    assert set_resume(cfg, "auto")
    CTVLMRunner.from_cfg(cfg).train()
    plain, tensors = end(cfg)
    assert plain == whole[0], interruptions
    torch.testing.assert_close(tensors, whole[1], rtol=0, atol=0)


CASES = {
    "within an epoch": [("after_train_iter", 3)],
    "at its last batch": [("after_train_iter", 5)],
    "before a checkpoint is written": [("after_train_iter", 6, "VERY_HIGH")],
    "twice": [("after_train_iter", 4), ("after_train_iter", 3)],
    "in a validation": [("before_val_iter", 2)],
    "in a later validation": [("before_val_iter", 4)],
    "after a validation": [("after_val_epoch", 2)],
    "before the best checkpoint is written": [("after_val_epoch", 1, "HIGHEST")],
}


@pytest.mark.parametrize("loop", ["epoch", "iter"])
def test_interrupted_runs_equal_an_uninterrupted_one(config, loop, tmp_path):
    import shutil

    whole = config("whole", loop, 0)
    CTVLMRunner.from_cfg(whole).train()
    expected = end(whole)
    for interruptions in CASES.values():
        assert_resumes(config, expected, loop, 0, interruptions=interruptions)
        shutil.rmtree(tmp_path / "killed")


@pytest.mark.parametrize("loop", ["epoch", "iter"])
def test_accumulated_gradients_are_restored(config, loop, capsys):
    def accumulating(folder, *args):
        cfg = config(folder, *args)
        cfg.optim_wrapper.accumulative_counts = 3
        return cfg

    whole = accumulating("whole", loop, 0)
    CTVLMRunner.from_cfg(whole).train()
    interruptions = [("after_train_iter", 3), ("after_train_iter", 3)]  # after the checkpoints 2 and 4
    assert_resumes(accumulating, end(whole), loop, 0, interruptions=interruptions)
    assert "divisible" not in capsys.readouterr().err
    assert "gradients" not in torch.load(Path(whole.work_dir) / f"iter_{STEPS}.pth", weights_only=True)["run_state"]


def test_accumulated_gradients_that_do_not_fit_are_an_error(config):
    cfg = config("killed", "epoch", 0)
    cfg.optim_wrapper.accumulative_counts = 3
    interrupt(cfg, "after_train_iter", 2)
    path = Path(cfg.work_dir) / "iter_2.pth"
    content = torch.load(path, weights_only=True)
    content["run_state"]["gradients"][0]["net.0.weight"] = torch.ones(1)
    torch.save(content, path)
    cfg = config("killed", "epoch", 0)
    cfg.optim_wrapper.accumulative_counts = 3
    set_resume(cfg, "auto")
    with pytest.raises(CheckpointError, match=r"iter_2\.pth.*gradient of 'net\.0\.weight'"):
        CTVLMRunner.from_cfg(cfg).train()


@pytest.mark.parametrize("loop", ["epoch", "iter"])
def test_data_workers_may_be_added(config, loop):
    whole = config("whole", loop, 0)
    CTVLMRunner.from_cfg(whole).train()
    interruptions = [("after_train_iter", 2), ("after_train_iter", 1), ("after_train_iter", 3)]
    assert_resumes(config, end(whole), loop, 2, interruptions=interruptions)


def test_endless_sampler(config):
    whole = config("whole", "iter", 0, "InfiniteSampler")
    CTVLMRunner.from_cfg(whole).train()
    assert_resumes(config, end(whole), "iter", 0, "InfiniteSampler", interruptions=[("after_train_iter", 7)])


def test_the_order_of_the_cases_is_resumed_without_a_seed_in_the_config(config):
    def without_seed(folder):
        cfg = config(folder, "epoch", 0)
        cfg.randomness = dict(seed=None)
        return cfg

    cfg = without_seed("killed")
    interrupt(cfg, "after_train_iter", 3)
    seed = torch.load(Path(cfg.work_dir) / "iter_2.pth", weights_only=True)["meta"]["seed"]
    cfg = without_seed("killed")
    set_resume(cfg, "auto")
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    assert runner.train_dataloader.sampler.seed == runner.seed == seed


def test_skipped_batches_are_not_loaded(config, monkeypatch):
    from tests.test_engine.toy import ToyDataset

    cfg = config("killed", "iter", 0)
    interrupt(cfg, "after_train_iter", 9)
    loaded = []
    load = ToyDataset.__getitem__
    monkeypatch.setattr(ToyDataset, "__getitem__", lambda self, index: loaded.append(index) or load(self, index))
    cfg = config("killed", "iter", 0)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    set_resume(cfg, "auto")
    CTVLMRunner.from_cfg(cfg).train()
    assert len(loaded) == 2 * 8  # the batches 9 and 10


def test_checkpoints_of_earlier_versions_do_not_repeat_batches(config):
    cfg = config("killed", "epoch", 0)
    interrupt(cfg, "after_train_iter", 3)
    path = Path(cfg.work_dir) / "iter_2.pth"
    content = torch.load(path, weights_only=True)
    del content["run_state"]
    torch.save(content, path)
    cfg = config("killed", "epoch", 0)
    set_resume(cfg, "auto")
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    assert runner.iter == STEPS


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(ranks=[]),
        lambda state: state.update(passes="x"),
        lambda state: state["ranks"][0].update(position=-1),
        lambda state: state["ranks"][0].update(position=2**70),
        lambda state: state.update(passes=2**70),
        lambda state: state["ranks"].append(dict(state["ranks"][0], position=1)),
        lambda state: state["ranks"][0]["random_state"].update(torch=[1, 2]),
        lambda state: state["ranks"][0]["random_state"].pop("numpy"),
    ],
)
def test_invalid_states_are_errors(config, change):
    cfg = config("killed", "epoch", 0)
    interrupt(cfg, "after_train_iter", 2)
    path = Path(cfg.work_dir) / "iter_2.pth"
    content = torch.load(path, weights_only=True)
    change(content["run_state"])
    torch.save(content, path)
    cfg = config("killed", "epoch", 0)
    set_resume(cfg, "auto")
    with pytest.raises(CheckpointError, match="checkpoint's"):
        CTVLMRunner.from_cfg(cfg).train()
