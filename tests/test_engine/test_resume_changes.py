"""What a resumed or started run says about changed settings, foreign checkpoints and small data sets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapperDict

from ctvlm.engine import CheckpointError, ConfigError, CTVLMRunner, read_checkpoint, set_resume
from ctvlm.engine.checkpoint.resume_state import _load_optimizer
from ctvlm.engine.optim.accumulation import SINGLE_CASE
from ctvlm.engine.run_lock import run_lock


@pytest.fixture
def trained(toy_config) -> Path:
    cfg = toy_config("run", train_cfg__max_epochs=1)
    CTVLMRunner.from_cfg(cfg).train()
    return Path(cfg.work_dir)


def test_changed_settings_are_listed_with_their_source(toy_config, trained, capsys):
    cfg = toy_config("run", train_cfg__max_epochs=2, optim_wrapper__optimizer__lr=0.5, model__seconds=0.001)
    set_resume(cfg, "auto")
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    restored, configured = capsys.readouterr().err.splitlines()
    assert "optim_wrapper.optimizer.lr=0.5 (checkpoint: 0.01)" in restored and "max_epochs" not in restored
    assert "train_cfg.max_epochs=2 (checkpoint: 1)" in configured and "lr" not in configured
    assert "model.seconds=0.001 (checkpoint: not set)" in configured
    assert runner.optim_wrapper.get_lr()["lr"][0] <= 0.01


def test_nothing_is_said_about_an_unchanged_config(toy_config, trained, capsys):
    cfg = toy_config("run", train_cfg__max_epochs=1)
    set_resume(cfg, "auto")
    CTVLMRunner.from_cfg(cfg).train()
    assert capsys.readouterr().err == ""


def test_the_best_checkpoint_has_no_optimizer_and_is_not_resumed(toy_config, trained):
    cfg = toy_config("run")
    (best,) = trained.glob("best_*.pth")
    set_resume(cfg, str(best))
    with pytest.raises(CheckpointError, match=r"no optimizer state.*load_from"):
        CTVLMRunner.from_cfg(cfg).train()


def test_the_state_of_another_optimizer_is_an_error(toy_config, trained):
    cfg = toy_config("run", optim_wrapper__optimizer=dict(type="SGD", lr=0.1, _delete_=True))
    set_resume(cfg, "auto")
    with pytest.raises(CheckpointError, match=r"does not fit SGD .*betas.*expected.*momentum"):
        CTVLMRunner.from_cfg(cfg).train()


def test_states_of_several_optimizers_are_resumed(toy_config, trained):
    runner = CTVLMRunner.from_cfg(toy_config("new"))
    state = torch.load(trained / "epoch_1.pth", weights_only=True)["optimizer"]
    first, second = (runner.build_optim_wrapper(runner.cfg.optim_wrapper.to_dict()) for _ in range(2))
    _load_optimizer(OptimWrapperDict(a=first, b=second), dict(a=state, b=state), "x.pth")
    assert second.optimizer.state_dict()["state"][0]["step"] == 3
    with pytest.raises(CheckpointError, match=r"x\.pth.*does not fit AdamW"):
        _load_optimizer(OptimWrapperDict(a=first, b=second), dict(a=state), "x.pth")


def test_resume_finds_the_checkpoints_of_another_folder(toy_config, tmp_path):
    options = dict(default_hooks__checkpoint__out_dir=str(tmp_path / "elsewhere"))
    CTVLMRunner.from_cfg(toy_config("run", train_cfg__max_epochs=1, **options)).train()
    runner = CTVLMRunner.from_cfg(toy_config("run", train_cfg__max_epochs=2, resume=True, **options))
    runner.train()
    assert runner._load_from == str(tmp_path / "elsewhere" / "run" / "epoch_1.pth")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "model.", "net._orig_mod."])
def test_prefixes_of_compiled_and_lightning_models(toy_config, trained, tmp_path, prefix):
    content = torch.load(trained / "epoch_1.pth", weights_only=True)
    expected = content["state_dict"]["net.0.weight"]
    content["state_dict"] = {f"{prefix}{name}": weight for name, weight in content["state_dict"].items()}
    if prefix.startswith(("model.", "net.")):
        content["pytorch-lightning_version"] = "2.5.0"
    torch.save(content, tmp_path / "foreign.pth")
    runner = CTVLMRunner.from_cfg(toy_config("new", load_from=str(tmp_path / "foreign.pth")))
    runner.load_or_resume()
    assert torch.equal(runner.model.net[0].weight.data, expected)
    assert set(read_checkpoint(trained / "epoch_1.pth")["state_dict"]) >= {"net.0.weight", "net.3.bias"}


def test_a_data_set_smaller_than_a_batch_is_one_line(toy_config):
    cfg = toy_config(train_dataloader__dataset__length=5, train_dataloader__drop_last=True)
    with pytest.raises(ConfigError, match=r"5 cases: fewer than a batch of 8.*drop_last") as info:
        CTVLMRunner.from_cfg(cfg).train()
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("size", [1, 2])
def test_a_contrastive_batch_of_one_case_is_one_warning(toy_config, capsys, monkeypatch, size):
    from tests.test_engine.toy import ToyModel

    monkeypatch.setattr(ToyModel, "compares_cases", True, raising=False)
    CTVLMRunner.from_cfg(toy_config(train_dataloader__batch_size=size, train_cfg__max_epochs=1)).train()
    assert capsys.readouterr().err.count(SINGLE_CASE) == (size == 1)


def test_a_second_run_in_the_folder_is_refused_and_changes_nothing(toy_config, trained, monkeypatch):
    import ctvlm.engine.run_lock as module

    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    with run_lock(trained):
        monkeypatch.setattr(module, "_held", {})  # as in another process
        with pytest.raises(Exception, match="in use by another training"):
            CTVLMRunner.from_cfg(toy_config("run")).train()
    after = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    assert set(after) == set(before)
