from __future__ import annotations

import pytest
import torch
from mmengine.config import Config

from ctvlm.engine import ConfigError, drop_validation, enable_amp, enable_lr_scaling, load_config, set_resume
from ctvlm.engine.cli.config import set_work_dir


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "vit3d_small.py"
    path.write_text("model = dict(type='A', depth=2)\noptim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n")
    return path


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit3d_smal.py", {}, r"vit3d_smal\.py.*vit3d_small\.py"),
        ("vit3d_small.py", {"modle.depth": 3}, r"modle\.depth.*'model'"),
        ("vit3d_small.py", {"zzz": 3}, r"zzz.*model, optim_wrapper"),
        ("vit3d_small.py", {"model.depth.x": 3}, r"--cfg-options .*model\.depth\.x"),
    ],
)
def test_errors(config, name, options, message):
    with pytest.raises(ConfigError, match=message):
        load_config(config.with_name(name), options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = dict(", r"broken\.py.*SyntaxError"),
        ("_base_ = ['missing.py']", r"broken\.py.*missing\.py"),
        ("a = 1 / 0", r"broken\.py.*ZeroDivisionError"),
        ("a = [{'global': dict(b=1)}]", r"\['global'\]"),
        ("custom_imports = dict(imports=['projects.nowhere'])", r"broken\.py.*projects\.nowhere"),
    ],
)
def test_broken_configs(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_option_that_has_its_own_argument(config):
    with pytest.raises(ConfigError, match="--launcher"):
        load_config(config, {"launcher": "slurm"}, {"launcher": "--launcher"})


def test_options_override_the_config(config):
    cfg = load_config(config, {"model.depth": 3, "work_dir": "x"})
    assert (cfg.model.depth, cfg.model.type, cfg.work_dir) == (3, "A", "x")


@pytest.mark.parametrize(
    ("argument", "in_config", "expected"),
    [("cli", "config", "cli"), (None, "config", "config"), (None, None, "work_dirs/vit3d_small")],
)
def test_work_dir_order(config, argument, in_config, expected):
    cfg = load_config(config)
    if in_config:
        cfg.work_dir = in_config
    set_work_dir(cfg, argument)
    assert cfg.work_dir == expected


def test_resume_auto_finds_the_last_checkpoint_in_a_moved_folder(tmp_path):
    cfg = Config({"work_dir": str(tmp_path), "load_from": "pretrained.pth", "resume": False})
    assert set_resume(cfg, "auto") is None
    assert (cfg.load_from, cfg.resume) == ("pretrained.pth", False)  # the first start may be a warm start

    for epoch in (2, 9, 10):
        (tmp_path / f"epoch_{epoch}.pth").touch()
    assert set_resume(cfg, "auto") == str(tmp_path / "epoch_10.pth")
    (tmp_path / "last_checkpoint").write_text("/elsewhere/epoch_9.pth\n")
    assert set_resume(cfg, "auto") == str(tmp_path / "epoch_9.pth")
    assert cfg.resume
    assert set_resume(cfg, "other.pth") == "other.pth"


def test_drop_validation(config):
    cfg = load_config(config)
    drop_validation(cfg)
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None


def test_amp(config):
    cfg = load_config(config)
    enable_amp(cfg)
    if not torch.cuda.is_available():
        assert cfg.optim_wrapper.type == "BFloat16OptimWrapper"
    cfg.optim_wrapper.type = "MyWrapper"
    with pytest.raises(ConfigError, match=r"optim_wrapper\.type .*'MyWrapper'"):
        enable_amp(cfg)


def test_lr_scaling_needs_base_batch_size(config):
    cfg = load_config(config)
    with pytest.raises(ConfigError, match="base_batch_size"):
        enable_lr_scaling(cfg)
    cfg.auto_scale_lr = {"base_batch_size": 8}
    enable_lr_scaling(cfg)
    assert cfg.auto_scale_lr.enable
