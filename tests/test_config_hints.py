"""Every "or change ..." hint in configs and documents works as it says."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from ctvlm.engine import ConfigOptions, load_config
from ctvlm.registry import MODELS
from tests.test_configs import ROOT, shrink

DEFAULT = ROOT / "configs/vit3d_cot_contrastive.py"
SOURCES = [ROOT / "README.md", *ROOT.glob("configs/**/*.md"), *ROOT.glob("configs/**/*.py")]
# a.b=value, a.0.b=value, or one of the top-level keys that documents set.
HINT = re.compile(r"\b((?:[a-z]\w*(?:\.\w+)+)|load_from|load_strict|ann_file)=([^\s`,;)]+)")


def hints():
    """(config, key, value as text) of each hint; a document's hints are for the default config unless it names one."""
    for source in sorted(SOURCES):
        for line in source.read_text(encoding="utf-8").split("\n"):
            text = line if source.suffix == ".md" else line.partition("#")[2]
            named = re.search(r"configs/[\w/]+\.py", text)
            config = ROOT / named.group() if named else source if source.suffix == ".py" else DEFAULT
            for key, value in HINT.findall(text):
                yield config, key, value.rstrip(".:")


HINTS = sorted(set(hints()))


def parsed(key: str, value: str) -> dict:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions)
    return parser.parse_args(["--cfg-options", f"{key}={value}"]).cfg_options


def test_there_are_hints():
    assert {"train_cfg.max_epochs", "model.text_encoder.pretrained"} <= {key for _, key, _ in HINTS}


@pytest.mark.parametrize(("config", "key", "value"), HINTS, ids=lambda value: getattr(value, "stem", value))
def test_a_hint_sets_its_key(config: Path, key, value):
    cfg = load_config(config)
    options = parsed(key, value)
    new = load_config(config, options)
    found = new
    for part in key.split("."):
        found = found[int(part)] if isinstance(found, (list, tuple)) else found[part]
    assert found == options[key]
    if cfg.get("model") is not None and new.model != cfg.model and "pretrained" not in key:
        MODELS.build(shrink(new.model))


def test_the_manifest_config_takes_another_manifest():
    """Its header says "or change ann_file"."""
    config = ROOT / "configs/vit3d_cot_contrastive_manifest.py"
    assert "ann_file" in config.read_text(encoding="utf-8").split("\n")[0]
    cfg = load_config(config, {"ann_file": "mine.jsonl"})
    loaders = [cfg[f"{split}_dataloader"] for split in ("train", "val", "test") if cfg.get(f"{split}_dataloader")]
    assert [loader.dataset.ann_file for loader in loaders] == ["mine.jsonl"] * len(loaders)


def test_finetuning_with_text_alignment_as_well(tmp_path):
    """The config says which line to remove for it."""
    config = ROOT / "configs/finetune_classification.py"
    lines = config.read_text(encoding="utf-8").split("\n")
    kept = [line for line in lines if "remove this line" not in line]
    assert len(kept) == len(lines) - 1
    own = tmp_path / "own.py"
    own.write_text("\n".join(kept).replace('"vit3d', f'"{ROOT.as_posix()}/configs/vit3d', 1), encoding="utf-8")
    model = MODELS.build(shrink(load_config(own).model))
    assert all(model.objectives[name].is_trained for name in ("volume", "region", "step", "classification"))


def test_finetuning_with_a_frozen_encoder():
    model = MODELS.build(
        shrink(load_config(ROOT / "configs/finetune_classification.py", parsed("model.frozen", "[backbone]")).model)
    )
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert all(parameter.requires_grad for parameter in model.objectives.parameters())
