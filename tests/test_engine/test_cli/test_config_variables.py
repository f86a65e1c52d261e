"""An option takes effect or is an error."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from ctvlm.engine import ConfigError, ConfigOptions, load_config
from ctvlm.engine.cli.config import RUNNER_SETTINGS
from ctvlm.engine.cli.config_variables import parse_config, variables

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = sorted([*ROOT.glob("configs/**/*.py"), *ROOT.glob("projects/*/configs/**/*.py")])
BASE = """
ann_file = "a.jsonl"
sizes = [dict(shape=(1, 2))]
train_dataloader = dict(dataset=dict(ann_file=ann_file, pipeline=sizes))
val_dataloader = dict(dataset=dict(ann_file=ann_file, pipeline=sizes))
"""


def changed(value):
    """Another value of the same type."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "_2"
    return type(value)([*value, value[-1]]) if isinstance(value, (list, tuple)) else {**value, "x": 1}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_variable_takes_effect_or_is_an_error(path):
    """An option such as ``--cfg-options ann_file=X`` must not be ignored."""
    cfg = load_config(path).to_dict()
    for name in variables(parse_config(path)) - RUNNER_SETTINGS:
        try:
            new = load_config(path, {name: changed(cfg[name])}).to_dict()
        except ConfigError as error:
            assert name in str(error)
            continue
        assert {k: v for k, v in new.items() if k != name} != {k: v for k, v in cfg.items() if k != name}


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base.py").write_text(BASE, encoding="utf-8")
    return tmp_path / "base.py"


def ann_files(cfg):
    return [cfg[f"{split}_dataloader"].dataset.ann_file for split in ("train", "val")]


def test_option_changes_every_use_of_a_variable(base):
    cfg = load_config(base, {"ann_file": "data/ü b.jsonl", "sizes.0.shape": (3, 4)})
    assert ann_files(cfg) == ["data/ü b.jsonl"] * 2
    assert [cfg[f"{split}_dataloader"].dataset.pipeline[0].shape for split in ("train", "val")] == [(3, 4)] * 2
    assert cfg.filename == str(base)


def test_options_for_a_variable_and_a_key(base):
    cfg = load_config(base, {"val_dataloader.dataset.ann_file": "v.jsonl", "ann_file": "b.jsonl"})
    assert ann_files(cfg) == ["b.jsonl", "v.jsonl"]


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        ("ann_file = 'b.jsonl'", ["b.jsonl", "b.jsonl"]),
        # If the child reads the variable, the new value is used in the child only, as in mmengine.
        ("ann_file = 'b.jsonl'\nval_dataloader = dict(dataset=dict(ann_file=ann_file))", ["a.jsonl", "b.jsonl"]),
        ("val_dataloader = dict(dataset=dict(ann_file={{_base_.ann_file}}))", ["a.jsonl", "a.jsonl"]),
    ],
)
def test_child_config(base, child, expected):
    path = base.with_name("child.py")
    path.write_text(f"_base_ = ['base.py']\n{child}\n", encoding="utf-8")
    assert ann_files(load_config(path)) == expected
    assert ann_files(load_config(path, {"ann_file": "c.jsonl"})) == ["c.jsonl"] * 2


def test_grandchild_overrides_child(base):
    base.with_name("child.py").write_text("_base_ = 'base.py'\nann_file = 'b.jsonl'\n", encoding="utf-8")
    path = base.with_name("grandchild.py")
    path.write_text("_base_ = 'child.py'\nann_file = 'c.jsonl'\n", encoding="utf-8")
    assert ann_files(load_config(path)) == ["c.jsonl"] * 2


def test_error_in_a_dumped_config_contains_the_keys_to_set(base, tmp_path):
    """In the copy of a config in a work folder, all variables are resolved."""
    load_config(base).dump(str(tmp_path / "dumped.py"))
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "dumped.py", {"ann_file": "b.jsonl"})
    assert "train_dataloader.dataset.ann_file" in str(error.value)


def test_variable_without_effect_is_an_error(tmp_path):
    path = tmp_path / "c.py"
    path.write_text("x = 1\ny = x if False else 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="'x'"):
        load_config(path, {"x": 5})


def test_key_of_a_plugin_is_set(base):
    path = base.with_name("child.py")
    path.write_text("_base_ = 'base.py'\nmy_plugin = dict(level=1)\n", encoding="utf-8")
    assert load_config(path, {"my_plugin.level": 2}).my_plugin.level == 2


def test_custom_imports_option_is_imported(base, tmp_path):
    path = base.with_name("child.py")
    path.write_text("_base_ = 'base.py'\ncustom_imports = dict(imports=['json'])\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no_such_module_of_mine"):
        load_config(path, {"custom_imports.imports": ["no_such_module_of_mine"]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("1e-3", 1e-3),
        ("true", True),
        ("None", None),
        ("AxialAttention", "AxialAttention"),
        ("a,b", ["a", "b"]),
        ("[1,2.5,x]", [1, 2.5, "x"]),
        ("(8, 24, 24)", (8, 24, 24)),
        ('["Lung nodule", "Pleural effusion"]', ["Lung nodule", "Pleural effusion"]),
        ("[Lung nodule, Pleural effusion]", ["Lung nodule", "Pleural effusion"]),
        ("data/CT (copy)/my manifest.jsonl", "data/CT (copy)/my manifest.jsonl"),
        ('"a,b.jsonl"', "a,b.jsonl"),
        ("runs[2]/x.pth", "runs[2]/x.pth"),
        ("{'a': 1}", {"a": 1}),
        ("1j", "1j"),
    ],
)
def test_values_are_parsed(text, expected):
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions)
    value = parser.parse_args(["--cfg-options", f"key={text}"]).cfg_options["key"]
    assert value == expected
    assert type(value) is type(expected)
