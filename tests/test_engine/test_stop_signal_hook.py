"""A signal ends a training with a checkpoint; the resumed run ends like an uninterrupted one."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from ctvlm.engine import CTVLMRunner, set_resume
from ctvlm.utils.stop_signals import Interrupted, handle_stop_signals
from tests.test_engine.test_mid_epoch_resume import LOOPS, STEPS, end

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals"),
    pytest.mark.usefixtures("signals_not_ignored"),
]


class SignalHook(Hook):
    """Sends a signal to this process at a call of a stage, counted from 1."""

    priority = "VERY_HIGH"

    def __init__(self, stage: str, call: int, number: int = signal.SIGTERM) -> None:
        self.calls = 0

        def send(*args, **kwargs):
            self.calls += 1
            if self.calls == call:
                os.kill(os.getpid(), number)

        setattr(self, stage, send)


@pytest.fixture
def config(toy_config):
    def make(folder, loop, by_epoch, workers=0):
        cfg = toy_config(
            folder,
            train_dataloader__dataset__length=40,
            train_dataloader__num_workers=workers,
            val_dataloader__num_workers=workers,
            default_hooks__checkpoint__by_epoch=by_epoch,
            default_hooks__checkpoint__interval=1 if by_epoch else 2,
            log_processor__by_epoch=loop == "epoch",
        )
        cfg.train_cfg = dict(LOOPS[loop])
        cfg.param_scheduler = [dict(type="CosineAnnealingLR", T_max=STEPS, by_epoch=False)]
        return cfg

    return make


def interrupt(cfg, *moment) -> Interrupted:
    runner = CTVLMRunner.from_cfg(cfg)
    runner.register_hook(SignalHook(*moment))
    with pytest.raises(Interrupted) as info:
        runner.train()
    return info.value


def ends(cfg, by_epoch: bool):
    if by_epoch:
        folder = Path(cfg.work_dir)
        shutil.copy(folder / "epoch_2.pth", folder / f"iter_{STEPS}.pth")
    return end(cfg)


def assert_resumes(config, expected, *moment, loop, by_epoch, workers=0):
    cfg = config("stopped", loop, by_epoch, workers)
    error = interrupt(cfg, *moment)
    assert error.exit_code == 128 + signal.SIGTERM
    cfg = config("stopped", loop, by_epoch, workers)
    path = set_resume(cfg, "auto")
    assert path and str(error).endswith(f"continue with --resume from {path}")
    torch.load(path, weights_only=True)
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    plain, tensors = ends(cfg, by_epoch)
    assert plain == expected[0], moment
    torch.testing.assert_close(tensors, expected[1], rtol=0, atol=0)
    shutil.rmtree(cfg.work_dir)


MOMENTS = {
    "in a step": ("before_train_iter", 3),
    "in the last step of an epoch": ("before_train_iter", 5),
    "in the first validation": ("before_val_iter", 1),
    "in the last batch of a validation": ("after_val_iter", 2),
    "after a validation": ("after_val_epoch", 1),
    "while a checkpoint is saved": ("before_save_checkpoint", 1),
}


@pytest.mark.parametrize(
    ("loop", "by_epoch"),
    [("epoch", True), pytest.param("epoch", False, marks=pytest.mark.slow), ("iter", False)],
)
def test_resumed_runs_equal_an_uninterrupted_one(config, loop, by_epoch):
    whole = config("whole", loop, by_epoch)
    CTVLMRunner.from_cfg(whole).train()
    expected = ends(whole, by_epoch)
    for moment in MOMENTS.values():
        assert_resumes(config, expected, *moment, loop=loop, by_epoch=by_epoch)


def test_checkpoint_of_an_interruption_is_replaced_by_the_next_one(config):
    cfg = config("run", "epoch", True)
    interrupt(cfg, "before_train_iter", 2, signal.SIGINT)
    folder = Path(cfg.work_dir)
    assert [path.name for path in folder.glob("*.pth")] == ["iter_2.pth"]
    for call, steps in ((1, 3), (2, 5)):
        cfg = config("run", "epoch", True)
        set_resume(cfg, "auto")
        interrupt(cfg, "before_train_iter", call)
        assert [path.name for path in folder.glob("*.pth")] == [f"iter_{steps}.pth"]


def test_a_signal_before_the_first_step_leaves_no_file(config):
    cfg = config("run", "epoch", True)
    runner = CTVLMRunner.from_cfg(cfg)
    load = runner.load_or_resume
    runner.load_or_resume = lambda: (load(), os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted), handle_stop_signals():
        runner.train()
    assert not Path(cfg.work_dir).exists()


def test_data_workers_ignore_signals_of_others(config):
    """SLURM and a terminal send signals to all processes."""
    cfg = config("run", "epoch", True, workers=2)
    runner = CTVLMRunner.from_cfg(cfg)

    class ToAll(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 1:
                for process in multiprocessing.active_children():
                    for name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGTERM"):
                        subprocess.run(["kill", f"-{name[3:]}", str(process.pid)], check=True)
                os.kill(os.getpid(), signal.SIGTERM)

    runner.register_hook(ToAll())
    with pytest.raises(Interrupted, match="after step 2"):
        runner.train()
    assert (Path(cfg.work_dir) / "iter_2.pth").exists()
