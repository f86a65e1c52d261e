from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from ctvlm.engine import CheckpointError, CTVLMRunner, enable_amp, set_resume


def train(cfg) -> dict:
    """Train; returns the metrics and the last checkpoint in the work folder."""
    CTVLMRunner.from_cfg(cfg).train()
    work_dir = Path(cfg.work_dir)
    last = torch.load(work_dir / f"epoch_{cfg.train_cfg.max_epochs}.pth", weights_only=True)
    return {**json.loads((work_dir / "results.json").read_text()), "checkpoint": last}


def assert_same_end(first, second):
    assert first["metrics"] == second["metrics"]
    for key, value in first["checkpoint"]["state_dict"].items():
        torch.testing.assert_close(second["checkpoint"]["state_dict"][key], value, rtol=0, atol=0)
    moments = [run["checkpoint"]["optimizer"]["state"] for run in (first, second)]
    torch.testing.assert_close(moments[0], moments[1], rtol=0, atol=0)


@pytest.mark.parametrize(("num_workers", "crash_at_epoch"), [(0, 2), (2, 2), (0, 0)])
def test_resumed_run_equals_an_uninterrupted_run(toy_config, crash_at_epoch, num_workers):
    loader = {"train_dataloader__num_workers": num_workers}
    whole = train(toy_config("whole", **loader))

    # Fails in the second step of an epoch. Dropout, shuffling and augmentation use random numbers.
    cfg = toy_config("resumed", model__crash_at_epoch=crash_at_epoch, **loader)
    with pytest.raises(RuntimeError, match="killed"):
        CTVLMRunner.from_cfg(cfg).train()
    cfg = toy_config("resumed", **loader)
    checkpoint = set_resume(cfg, "auto")
    assert (Path(checkpoint).name if checkpoint else None) == (
        f"epoch_{crash_at_epoch}.pth" if crash_at_epoch else None
    )
    assert_same_end(whole, train(cfg))


def test_another_seed_gives_another_result(toy_config):
    first, second = (
        train(toy_config(f"seed{seed}", randomness__seed=seed, train_cfg__max_epochs=1)) for seed in (0, 1)
    )
    assert first["metrics"] != second["metrics"]


def test_run_resumed_after_its_last_epoch_reports_metrics(toy_config):
    whole = train(toy_config())
    (Path(toy_config().work_dir) / "results.json").unlink()
    cfg = toy_config()
    set_resume(cfg, "auto")
    assert train(cfg)["metrics"] == whole["metrics"]


def test_last_two_checkpoints_and_the_best_are_kept(toy_config):
    end = train(toy_config())
    checkpoints = sorted(path.name for path in Path(toy_config().work_dir).glob("*.pth"))
    assert checkpoints[1:] == ["epoch_3.pth", "epoch_4.pth"]
    assert checkpoints[0].startswith("best_toy_error_epoch_")
    best = torch.load(Path(toy_config().work_dir) / checkpoints[0], weights_only=True)
    assert best["message_hub"]["runtime_info"]["best_score"] <= end["metrics"]["toy/error"]


def test_hooks_set_to_none_are_removed(toy_config):
    names = ("checkpoint", "logger", "non_finite", "bad_cases", "run_record", "stop_signal")
    cfg = toy_config()
    kinds = {type(hook).__name__ for hook in CTVLMRunner.from_cfg(cfg).hooks}
    cfg.merge_from_dict({f"default_hooks.{name}": None for name in names})
    removed = kinds - {type(hook).__name__ for hook in CTVLMRunner.from_cfg(cfg).hooks}
    assert len(removed) == len(names) and {"PlainCheckpointHook", "StopSignalHook"} < removed


def test_old_checkpoint_is_removed_after_the_new_one_is_written(toy_config, monkeypatch):
    """With max_keep_ckpts=1 there is always a checkpoint."""
    existing = []
    save = CTVLMRunner.save_checkpoint

    def spy(self, out_dir, filename, *args, **kwargs):
        existing.append([path.name for path in Path(out_dir).glob("epoch_*.pth")])
        return save(self, out_dir, filename, *args, **kwargs)

    monkeypatch.setattr(CTVLMRunner, "save_checkpoint", spy)
    train(toy_config(default_hooks__checkpoint__max_keep_ckpts=1, default_hooks__checkpoint__save_best=None))
    assert existing == [[], ["epoch_1.pth"], ["epoch_2.pth"], ["epoch_3.pth"]]


def test_test_and_validation_metrics_are_equal(toy_config):
    end = train(toy_config())
    cfg = toy_config("test", load_from=str(Path(toy_config().work_dir) / "epoch_4.pth"))
    assert CTVLMRunner.from_cfg(cfg).test() == end["metrics"]


def test_checkpoint_of_another_architecture_is_an_error(toy_config):
    train(toy_config())
    checkpoint = str(Path(toy_config().work_dir) / "epoch_4.pth")
    cfg = toy_config("wide", load_from=checkpoint, model__width=32)
    with pytest.raises(CheckpointError, match=r"epoch_4\.pth .*\(32, 8\)"):
        CTVLMRunner.from_cfg(cfg).train()
    assert not Path(cfg.work_dir).exists()


def test_a_run_is_not_resumed_from_a_released_model(toy_config, released_model):
    with pytest.raises(CheckpointError, match="small is a folder"):
        CTVLMRunner.from_cfg(toy_config(load_from=str(released_model), resume=True)).train()


def test_warm_start_loads_matching_weights(toy_config):
    train(toy_config())
    checkpoint = str(Path(toy_config().work_dir) / "epoch_4.pth")
    cfg = toy_config("warm", load_from=checkpoint, load_strict=False, model__unused=True, find_unused_parameters=True)
    runner = CTVLMRunner.from_cfg(cfg)
    runner.load_or_resume()
    expected = torch.load(checkpoint, weights_only=True)["state_dict"]["net.0.weight"]
    torch.testing.assert_close(runner.model.net[0].weight.data, expected)


def test_failed_start_does_not_change_the_work_folder(toy_config):
    train(toy_config())
    before = sorted(Path(toy_config().work_dir).rglob("*"))
    with pytest.raises(KeyError, match="NoSuchModel"):
        CTVLMRunner.from_cfg(toy_config(model__type="NoSuchModel"))
    with pytest.raises(ValueError, match="broken"):
        CTVLMRunner.from_cfg(toy_config(train_dataloader__dataset__fail_with="broken")).train()
    assert sorted(Path(toy_config().work_dir).rglob("*")) == before


def test_failed_start_in_the_same_second_keeps_the_log_of_the_other_run(toy_config, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda *_: "20260102_030405")
    train(toy_config())
    log = Path(toy_config().work_dir) / "20260102_030405" / "20260102_030405.log"
    with pytest.raises(ValueError, match="broken"):
        CTVLMRunner.from_cfg(toy_config(train_dataloader__dataset__fail_with="broken")).train()
    assert log.is_file()
    assert [path for path in log.parents[1].iterdir() if path.is_dir()] == [log.parent]


def test_failed_start_removes_created_folders(toy_config, tmp_path):
    with pytest.raises(ValueError, match="broken"):
        CTVLMRunner.from_cfg(toy_config("a/b/c", train_dataloader__dataset__fail_with="broken")).train()
    assert list(tmp_path.iterdir()) == []


def test_error_during_training_is_logged(toy_config):
    cfg = toy_config(model__crash_at_epoch=1)
    with pytest.raises(RuntimeError, match="killed") as info:
        CTVLMRunner.from_cfg(cfg).train()
    (log,) = Path(cfg.work_dir).glob("*/*.log")
    assert "RuntimeError: killed" in log.read_text()
    assert info.value.log_file == str(log)


def test_mixed_precision_uses_bfloat16_and_float32_weights(toy_config):
    cfg = toy_config()
    enable_amp(cfg)
    runner = CTVLMRunner.from_cfg(cfg)
    model = runner.train()
    assert model.dtype_seen == torch.bfloat16
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.load(Path(cfg.work_dir) / "epoch_4.pth", weights_only=True)["optimizer"]["state"]


def test_learning_rate_is_scaled_with_the_batch_size(toy_config):
    cfg = toy_config(auto_scale_lr__enable=True, auto_scale_lr__base_batch_size=4, param_scheduler=None)
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    assert runner.optim_wrapper.get_lr()["lr"] == [2e-2]


def test_terminal_output_and_log_file(toy_config, capsys):
    cfg = toy_config()
    train(cfg)
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    steps = [line for line in lines if "  step " in line and "loss" in line]
    assert [line.split("  ")[1] for line in steps] == [f"step {n}/12" for n in (1, 2, 4, 6, 8, 10, 12)]
    for part in ("epoch 1/4", "  square ", "abs ", "lr 1.00e-02", "data ", "eta "):
        assert part in steps[0]
    assert sum("validation: toy/error" in line for line in lines) == 4
    row = next(line for line in lines if line.startswith("│ toy/error"))
    assert [cell.strip() for cell in row.strip("│").split("│")][2:] == ["2", "12"]
    for path in ("epoch_4.pth", "best_toy_error", "results.json", ".log", "toy_config.py"):
        assert path in out
    assert "Config:" not in out and "System environment" not in out
    (log,) = Path(cfg.work_dir).glob("*/*.log")
    for part in ("Config:", "System environment", "Epoch(train)"):
        assert part in log.read_text()
