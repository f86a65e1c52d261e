"""Training continues on a full or read-only disk, and after its work folder has been removed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from ctvlm.engine import CheckpointError, CTVLMRunner
from ctvlm.utils import WriteError
from tests.faults import FailingCalls, files_of


class AtEpoch(Hook):
    """Calls functions before an epoch, by its number from 1."""

    priority = "HIGHEST"

    def __init__(self, **calls) -> None:
        self.calls = {int(name.removeprefix("epoch_")): call for name, call in calls.items()}

    def before_train_epoch(self, runner) -> None:
        self.calls.get(runner.epoch + 1, lambda: None)()


def train(cfg, **calls):
    runner = CTVLMRunner.from_cfg(cfg)
    runner.register_hook(AtEpoch(**calls))
    runner.train()
    return runner


def names(folder) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir() if path.is_file() and path.suffix != ".py")


@pytest.fixture
def disk(monkeypatch, tmp_path):
    """A folder whose new checkpoints fail while ``disk.full``."""

    class Disk:
        full = False
        only = ".pth"

    replace = os.replace

    def fail(source, target):
        if Disk.full and str(target).endswith(Disk.only):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    return Disk


def test_a_failed_save_is_one_line_and_the_training_continues(toy_config, disk, capsys):
    cfg = toy_config(default_hooks__checkpoint__save_best=None)
    train(cfg, epoch_3=lambda: setattr(disk, "full", True), epoch_4=lambda: setattr(disk, "full", False))
    found = [line for line in capsys.readouterr().err.split("\n") if line]
    assert len(found) == 1 and "epoch_3.pth: No space left on device" in found[0] and "epoch_2.pth" in found[0]
    assert names(cfg.work_dir) == ["epoch_2.pth", "epoch_4.pth", "last_checkpoint", "results.json"]
    assert (Path(cfg.work_dir) / "last_checkpoint").read_text() == "epoch_4.pth"
    content = torch.load(Path(cfg.work_dir) / "epoch_4.pth", weights_only=True)
    assert content["message_hub"]["runtime_info"]["keep_ckpt_ids"] == [1, 2, 4]  # 1 is removed next


def test_the_training_stops_after_failed_saves_in_a_row(toy_config, disk):
    cfg = toy_config(default_hooks__checkpoint__max_failed_saves=2)
    with pytest.raises(CheckpointError, match=r"epoch_3.pth.*No space left.*2 failed saves.*last.*epoch_1.pth"):
        train(cfg, epoch_2=lambda: setattr(disk, "full", True))
    assert (Path(cfg.work_dir) / "last_checkpoint").read_text() == "epoch_1.pth"
    assert [name for name in names(cfg.work_dir) if "best" not in name] == ["epoch_1.pth", "last_checkpoint"]


def test_a_missing_last_checkpoint_is_an_error_after_the_results(toy_config, disk, capsys):
    cfg = toy_config(default_hooks__checkpoint__save_best=None)
    with pytest.raises(CheckpointError, match=r"has ended.*epoch_4.pth.*last checkpoint is epoch_3.pth"):
        train(cfg, epoch_4=lambda: setattr(disk, "full", True))
    assert "Validation after epoch 4" in capsys.readouterr().out
    assert names(cfg.work_dir) == ["epoch_2.pth", "epoch_3.pth", "last_checkpoint", "results.json"]


def test_the_pointer_that_cannot_be_written_names_an_existing_checkpoint(toy_config, disk):
    disk.only = "last_checkpoint"
    cfg = toy_config(default_hooks__checkpoint__save_best=None, default_hooks__checkpoint__max_keep_ckpts=1)
    with pytest.raises(CheckpointError, match="last_checkpoint: No space left"):
        train(cfg, epoch_3=lambda: setattr(disk, "full", True))
    assert names(cfg.work_dir) == ["epoch_2.pth", "last_checkpoint", "results.json"]
    assert (Path(cfg.work_dir) / "last_checkpoint").read_text() == "epoch_2.pth"


def test_a_failed_best_checkpoint_keeps_the_previous_one(toy_config, disk, capsys, monkeypatch):
    from tests.test_engine.toy import ToyMetric

    scores = iter([3.0, 2.0, 2.5, 2.5])
    monkeypatch.setattr(ToyMetric, "compute_metrics", lambda self, results: {"error": next(scores)})
    disk.only = "epoch_2.pth"
    disk.full = True
    cfg = toy_config()
    runner = train(cfg)
    # The score of the best checkpoint that could not be written does not hide the next better one.
    assert names(cfg.work_dir)[0] == "best_toy_error_epoch_3.pth"
    assert [name for name in names(cfg.work_dir) if name.startswith("best")] == ["best_toy_error_epoch_3.pth"]
    assert runner.message_hub.get_info("best_score") == 2.5
    assert "best_toy_error_epoch_2.pth was not saved" in capsys.readouterr().err


def test_a_removed_work_folder_is_created_again(toy_config, capsys):
    cfg = toy_config(default_hooks__checkpoint__save_best=None)
    train(cfg, epoch_3=lambda: shutil.rmtree(cfg.work_dir))
    assert names(cfg.work_dir) == ["epoch_3.pth", "epoch_4.pth", "last_checkpoint", "results.json"]
    lines = [line for line in capsys.readouterr().err.split("\n") if line]
    assert len(lines) <= 2 and "has been removed" in lines[-1] and "Traceback" not in "".join(lines)


def test_a_full_log_is_one_warning(toy_config, capsys):
    cfg = toy_config(default_hooks__checkpoint__save_best=None)
    runner = CTVLMRunner.from_cfg(cfg)

    def fill() -> None:
        for path in (Path(runner.logger.log_file), Path(runner.log_dir) / "vis_data" / "scalars.json"):
            path.unlink()
            path.symlink_to("/dev/full")

    runner.register_hook(AtEpoch(epoch_2=fill))
    runner.train()
    lines = [line for line in capsys.readouterr().err.split("\n") if line]
    assert len(lines) == 1 and "No space left on device" in lines[0] and "the run continues" in lines[0]
    assert "epoch_4.pth" in names(cfg.work_dir)


def test_a_full_disk_for_tensorboard_is_one_warning(toy_config, capsys, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto import event_pb2  # noqa: F401  the package is complete
    from tensorboard.summary.writer import record_writer

    def fail(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(record_writer.RecordWriter, "write", fail)
    cfg = toy_config(visualizer__vis_backends=["TensorboardVisBackend"])
    train(cfg)
    lines = [line for line in capsys.readouterr().err.split("\n") if line]
    assert len(lines) == 1 and "TensorboardVisBackend" in lines[0] and "No space left" in lines[0]


def test_predictions_that_cannot_be_written_are_an_error_after_the_results(toy_config, monkeypatch, capsys):
    from tests.test_engine.toy import ToyMetric

    monkeypatch.setattr(ToyMetric, "failure", WriteError("cannot write a.pt: disk full"), raising=False)
    cfg = toy_config()
    with pytest.raises(WriteError, match=r"a\.pt"):
        CTVLMRunner.from_cfg(cfg).test()
    assert "error" in capsys.readouterr().out and "test_results.csv" in names(cfg.work_dir)


def test_a_read_only_disk_removes_nothing(toy_config, monkeypatch):
    cfg = toy_config()
    train(cfg.copy())
    before = files_of(Path(cfg.work_dir))
    with monkeypatch.context() as patch:
        FailingCalls(patch, Path(cfg.work_dir), ("open", "mkdir"), errno.EROFS)
        with pytest.raises(OSError, match="Read-only"):
            CTVLMRunner.from_cfg(cfg)
    assert files_of(Path(cfg.work_dir)) == before
