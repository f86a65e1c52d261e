"""A resumed run takes no code and no path from its checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from ctvlm.engine import CheckpointError, CTVLMRunner, set_resume


@pytest.fixture
def trained(toy_config) -> Path:
    """Work folder of a finished run."""
    cfg = toy_config("run", train_cfg__max_epochs=2)
    CTVLMRunner.from_cfg(cfg).train()
    return Path(cfg.work_dir)


def edit(path: Path, change) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def resume(toy_config, folder: str, **overrides) -> CTVLMRunner:
    cfg = toy_config(folder, **overrides)
    assert set_resume(cfg, "auto")
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.mark.parametrize("key", ["config", "cfg"])
def test_text_of_a_checkpoint_is_not_executed(toy_config, trained, tmp_path, key):
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'executed')!r}).touch()\n"
    edit(trained / "epoch_2.pth", lambda content: content["meta"].update({key: code}))
    resume(toy_config, "run")
    assert not (tmp_path / "executed").exists()


def test_resuming_a_copy_changes_nothing_in_the_original(toy_config, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "copy")
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    (best,) = (tmp_path / "copy").glob("best_*.pth")
    edit(tmp_path / "copy" / "epoch_2.pth", lambda c: c["message_hub"]["runtime_info"].update(best_score=1e9))
    runner = resume(toy_config, "copy", train_cfg__max_epochs=4)
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before
    (best,) = (tmp_path / "copy").glob("best_*.pth")
    assert best.name != next(trained.glob("best_*.pth")).name
    assert runner.message_hub.get_info("best_ckpt") == str(best)


@pytest.mark.parametrize("hostile", ["{victim}", "../victim.pth", "..\\victim.pth", 3])
def test_a_checkpoint_cannot_name_a_file_to_remove(toy_config, trained, tmp_path, hostile):
    victim = tmp_path / "victim.pth"
    victim.write_text("kept")
    (trained / "victim.pth").write_text("not a best checkpoint: kept")
    name = hostile.format(victim=victim) if isinstance(hostile, str) else hostile
    info = dict(best_score=1e9, best_ckpt=name, last_ckpt=name, keep_ckpt_ids=["/../../victim"] * 3)
    edit(trained / "epoch_2.pth", lambda content: content["message_hub"]["runtime_info"].update(info))
    resume(toy_config, "run", train_cfg__max_epochs=4)
    assert victim.read_text() == "kept"
    assert (trained / "victim.pth").exists()


def test_a_link_in_the_work_folder_is_not_followed(toy_config, trained, tmp_path):
    victim = tmp_path / "victim.py"
    victim.write_text("kept")
    for name in ("toy_config.py", "last_checkpoint", "epoch_3.pth", "results.json"):
        (trained / name).unlink(missing_ok=True)
        (trained / name).symlink_to(victim)
    cfg = toy_config("run", train_cfg__max_epochs=3)
    set_resume(cfg, str(trained / "epoch_2.pth"))
    CTVLMRunner.from_cfg(cfg).train()
    assert victim.read_text() == "kept"
    assert "ToyModel" in (trained / "toy_config.py").read_text()


def test_checkpoints_store_names_not_paths(toy_config, trained):
    info = torch.load(trained / "epoch_2.pth", weights_only=True)["message_hub"]["runtime_info"]
    assert (info["last_ckpt"], Path(info["best_ckpt"]).name) == ("epoch_2.pth", info["best_ckpt"])
    assert (trained / "last_checkpoint").read_text() == "epoch_2.pth"


def test_leftovers_of_a_crash_are_removed_when_the_run_is_resumed(toy_config, trained, monkeypatch):
    """Between writing a checkpoint and removing an outdated one."""
    shutil.copy(trained / "epoch_2.pth", trained / "epoch_1.pth")
    edit(trained / "epoch_2.pth", lambda c: c["message_hub"]["runtime_info"].update(keep_ckpt_ids=[0, 1, 2]))
    (trained / "epoch_0.pth").write_text("outdated")
    names = ("epoch_3.pth", "last_checkpoint", "x.json", "toy_config.py", "r.csv", "my.txt")
    log_dir, other = trained / "20260102_030405" / "vis_data", trained.parent / "other_run"
    log_dir.mkdir(parents=True)
    other.mkdir()
    (trained / "20260102_030406").symlink_to(other, target_is_directory=True)
    parts = [trained / f".part_{'0' * 16}_{name}" for name in names]
    logged, elsewhere = [folder / f".part_{'0' * 16}_run.json" for folder in (log_dir, other)]
    for part in [*parts, logged, elsewhere]:
        part.write_text("unfinished")
    resume(toy_config, "run", train_cfg__max_epochs=3)
    assert [part.name for part in parts if part.exists()] == [parts[-1].name]
    assert not logged.exists() and elsewhere.exists()
    assert sorted(path.name for path in trained.glob("epoch_*.pth")) == ["epoch_2.pth", "epoch_3.pth"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["meta"].update(epoch="1"), r"meta\.epoch"),
        (lambda c: c["meta"].update(iter=-1), r"meta\.iter"),
        (lambda c: c["meta"].update(seed=[1]), r"meta\.seed"),
        (lambda c: c["meta"].update(seed=2**32), r"meta\.seed"),
        (lambda c: c.update(meta=None), r"meta\.epoch"),
        (lambda c: c.update(meta=[1]), "'meta'"),
        (lambda c: c["meta"].update(training_data="x"), "training_data"),
        (lambda c: c.update(message_hub=3), "message_hub"),
        (lambda c: c["message_hub"]["log_scalars"].update(x=dict(values="ab", counts=[1, 2])), "log_scalars.x"),
        (lambda c: c.pop("optimizer"), "no optimizer state"),
        (lambda c: c["optimizer"].update(param_groups=[]), "does not fit AdamW"),
        (lambda c: c["optimizer"].update(state={"a": 1}), "does not fit AdamW"),
        (lambda c: c["optimizer"].pop("state"), "does not fit AdamW"),
        (lambda c: c.update(param_schedulers=[]), "expected 1"),
        (lambda c: c["state_dict"].update({3: torch.ones(1)}), "weight name 3"),
        (lambda c: c["state_dict"]["net.0.weight"].fill_(float("nan")), r"1 of its \d+ weights .* net\.0\.weight"),
        (lambda c: c.update(ema_state_dict={"module.x": torch.tensor(float("inf"))}), r"such as module\.x"),
    ],
)
def test_entries_of_a_wrong_type_are_errors(toy_config, trained, change, message):
    edit(trained / "epoch_2.pth", change)
    with pytest.raises(CheckpointError, match=message):
        resume(toy_config, "run", train_cfg__max_epochs=3)


def test_a_scheduler_keeps_its_methods_and_its_types(toy_config, trained):
    hostile = dict(step="x", last_step="x", optimizer=3, _get_value=None)
    edit(trained / "epoch_2.pth", lambda content: content["param_schedulers"][0].update(hostile))
    assert resume(toy_config, "run", train_cfg__max_epochs=3).iter == 9


def test_resume_of_the_runner_finds_the_last_checkpoint_in_its_folder(toy_config, trained, tmp_path):
    (trained / "last_checkpoint").write_text(str(tmp_path / "elsewhere.pth"))
    runner = CTVLMRunner.from_cfg(toy_config("run", resume=True, train_cfg__max_epochs=3))
    runner.train()
    assert runner.iter == 9 and runner._load_from == str(trained / "epoch_2.pth")
