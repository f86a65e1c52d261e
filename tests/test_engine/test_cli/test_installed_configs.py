from __future__ import annotations

import pytest

from ctvlm.engine import ConfigError, load_config
from ctvlm.engine.cli.installed_configs import config_title, configs_folder, installed_configs


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("vit3d_cot_contrastive", "vit3d_cot_contrastive.py"),
        ("configs/vit3d_cot_contrastive.py", "vit3d_cot_contrastive.py"),
        ("ablations/full.py", "ablations/full.py"),
        ("phantom_full", "evaluation/phantom_full.py"),
    ],
)
def test_a_config_is_found_by_name_from_an_empty_folder(monkeypatch, tmp_path, name, file):
    monkeypatch.chdir(tmp_path)
    assert load_config(name).filename == str(configs_folder() / file)


def test_a_file_precedes_an_installed_config(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full.py").write_text("x = 1")
    assert load_config("full.py").x == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit3d_cot_contrastve", "did you mean vit3d_cot_contrastive"),
        ("ful", "did you mean ablations/full"),
        ("zzz", "'ctvlm list configs'"),
        ("_base_/default_runtime.py", "not found"),
    ],
)
def test_unknown_names(monkeypatch, tmp_path, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_config(name)


@pytest.mark.parametrize("base", ["vit3d_cot_contrastive", "configs/vit3d_cot_contrastive.py"])
def test_an_own_config_can_have_an_installed_base(tmp_path, base):
    (tmp_path / "middle.py").write_text(f"_base_ = [{base!r}]\nmodel = dict(backbone=dict(depth=5))")
    (tmp_path / "own.py").write_text("_base_ = 'middle.py'\nwork_dir = 'x'")
    cfg = load_config(tmp_path / "own.py", {"model.backbone.embed_dims": 24})
    assert (cfg.model.backbone.depth, cfg.model.backbone.embed_dims, cfg.work_dir) == (5, 24, "x")
    assert cfg.model.type == "CoTContrastiveVLM" and cfg.filename == str(tmp_path / "own.py")


def test_every_installed_config_has_a_title():
    assert not [name for name, path in installed_configs().items() if not config_title(path)]
    assert config_title(installed_configs()["ablations/full"]) == "The default model: the reference of every ablation"
