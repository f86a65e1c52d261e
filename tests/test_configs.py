"""Every config loads, names only what exists, and builds its model."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from torch import nn

from ctvlm.engine import load_config
from ctvlm.registry import DATA_SAMPLERS, DATASETS, HOOKS, METRICS, MODELS, OPTIM_WRAPPERS, TRANSFORMS
from ctvlm.utils import MissingPackageError
from tests.test_models.test_heads.generation_cases import save_language_model
from tests.test_models.text_checkpoints import PUBLISHED

ROOT = Path(__file__).resolve().parents[1]
ALL_FILES = sorted([*ROOT.glob("configs/**/*.py"), *ROOT.glob("projects/*/configs/**/*.py")])
RUNNABLE = [path for path in ALL_FILES if "_base_" not in path.parts]
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
# Enough to build, too small to take time: of a model's parts only their number and width change.
SHRUNKEN = {"depth": 2, "embed_dims": 24, "num_heads": 2, "vocab_size": 300, "out_dims": 16}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def shrink(cfg):
    """The config with every size in ``SHRUNKEN`` replaced, at any depth."""
    if isinstance(cfg, dict):
        return ConfigDict({key: SHRUNKEN.get(key, shrink(value)) for key, value in cfg.items()})
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(shrink(item) for item in cfg)
    return cfg


def datasets_in(cfg):
    """A data set's config and those of the data sets it wraps."""
    yield cfg
    for inner in [cfg.get("dataset"), *cfg.get("datasets", [])]:
        if inner:
            yield from datasets_in(inner)


def test_there_are_configs():
    assert {"configs/vit3d_cot_contrastive.py"} <= {name(path) for path in RUNNABLE}


@pytest.mark.parametrize("path", ALL_FILES, ids=name)
def test_no_import(path):
    """mmengine 0.10.7 takes a config with an import for its other, lazy kind, and breaks on it."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    lines = [node.lineno for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not lines, f"{name(path)} imports in line {lines}"


@pytest.fixture(params=RUNNABLE, ids=name)
def cfg(request) -> Config:
    return load_config(request.param)


def test_model_builds(cfg, tmp_path):
    small = shrink(cfg.model)
    text_encoder = small.get("text_encoder") or {}
    if "pretrained" in text_encoder:  # a hub id: in its place a tiny random encoder, saved in the same format
        text_encoder.pretrained = str(PUBLISHED[text_encoder.pretrained](tmp_path))
        text_encoder.pop("max_length", None)
    for objective in (small.get("objectives") or {}).values():
        if "pretrained" in objective.get("head", {}):  # the same for a language model
            objective.head.pretrained = save_language_model(tmp_path / "lm")
    try:
        model = MODELS.build(small)
    except MissingPackageError as error:
        pytest.skip(str(error))
    assert isinstance(model, nn.Module)
    assert sum(p.numel() for p in model.parameters()) > 0


def test_data_is_named_right(cfg):
    for key in LOADERS:
        loader = cfg.get(key)
        if loader is None:
            continue
        assert DATA_SAMPLERS.get(loader.sampler.type), f"{key}.sampler.type"
        assert FUNCTIONS.get(loader.collate_fn.type) is pseudo_collate, f"{key} must state its collate_fn"
        for dataset in datasets_in(loader.dataset):
            assert DATASETS.get(dataset.type), f"{key}.dataset.type {dataset.type}"
            for step in dataset.get("pipeline", []):
                assert TRANSFORMS.get(step.type), f"{key}.dataset.pipeline {step.type}"
    assert cfg.train_dataloader.sampler.shuffle


def test_what_surrounds_the_model_builds(cfg):
    for hook in [*cfg.default_hooks.values(), *cfg.get("custom_hooks", [])]:
        HOOKS.build(hook)
    for key in ("val_evaluator", "test_evaluator"):
        metrics = cfg.get(key) or []
        for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
            METRICS.build(metric)
    assert OPTIM_WRAPPERS.get(cfg.optim_wrapper.get("type", "OptimWrapper"))
    assert cfg.default_scope == "ctvlm"
    assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size


def test_dump_reads_back_the_same(cfg, tmp_path):
    """The copy in the work folder and in each checkpoint is the config that ran."""
    cfg.dump(str(tmp_path / "dumped.py"))
    assert Config.fromfile(str(tmp_path / "dumped.py")).to_dict() == cfg.to_dict()


def test_readme_swaps_a_part(tmp_path):
    """README's two ways to swap the attention give the same model."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    key, value = "model.backbone.block.attention.type", "AxialAttention"
    assert f"{key}={value}" in readme
    by_option = load_config(ROOT / "configs/vit3d_cot_contrastive.py", {key: value})
    blocks = [block.split("```")[0] for block in readme.split("```python\n")[1:]]
    example = next(block for block in blocks if block.startswith("_base_"))
    own = tmp_path / "own.py"
    own.write_text(example.replace("configs/", f"{ROOT.as_posix()}/configs/"), encoding="utf-8")
    by_file = load_config(own)
    for cfg in (by_option, by_file):
        model = MODELS.build(shrink(cfg.model))
        assert {type(block.attention).__name__ for block in model.backbone.blocks} == {value}
