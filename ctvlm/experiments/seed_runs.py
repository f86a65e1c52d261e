"""Plan training runs of several configs, each with several seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ctvlm.engine.cli.config import ConfigError, load_config
from ctvlm.registry import DATASETS
from ctvlm.utils import atomic_write

LOADERS = ("train_dataloader", "val_dataloader")


@dataclass(frozen=True)
class SeedRun:
    """One config with one seed.

    Attributes:
        config: the merged config in the work folder.
        digest: hash of the config's text; a stored result with another digest is outdated.
    """

    name: str
    seed: int
    config: Path
    digest: str
    work_dir: Path

    @property
    def folder(self) -> Path:
        return self.work_dir / "runs" / f"{self.name}_seed{self.seed}"

    @property
    def result(self) -> Path:
        return self.work_dir / "results" / f"{self.name}_seed{self.seed}.json"

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".txt")

    def load_result(self) -> dict[str, Any] | None:
        """Return the stored result, or None if the current config has no result."""
        try:
            result = json.loads(self.result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return result if result.get("digest") == self.digest else None


@dataclass(frozen=True)
class RunSettings:
    """Settings that apply to every config of an experiment; None keeps the config's value.

    Attributes:
        cfg_options: dotted keys and values that override each config.
        epochs: number of training epochs.
        cases: number of training cases of PhantomCT.
        val_cases: number of validation cases of PhantomCT.
    """

    cfg_options: dict[str, Any] | None = None
    epochs: int | None = None
    cases: int | None = None
    val_cases: int | None = None


def plan_runs(
    paths: Sequence[Path], seeds: Sequence[int], work_dir: Path, reference: str, settings: RunSettings
) -> tuple[list[SeedRun], list[Config]]:
    """Write the merged configs to the work folder.

    Returns:
        All runs, those of the first seed first and the reference config before the others; and the configs.

    Raises:
        ConfigError: a config cannot be read, has no key for an option, or has the same name as another one.
    """
    paths = sorted(paths, key=lambda path: path.stem != reference)
    names = [path.stem for path in paths]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"several configs have the names {duplicates}, which identify their results: rename one")
    (work_dir / "configs").mkdir(parents=True, exist_ok=True)
    runs, configs = [], []
    for name, path in zip(names, paths):
        cfg, digest = prepare_config(path, work_dir, settings)
        merged = work_dir / "configs" / f"{name}.py"
        with atomic_write(merged) as part:
            cfg.dump(str(part))
        configs.append(cfg)
        runs.append([SeedRun(name, seed, merged, digest, work_dir) for seed in seeds])
    # The first seed of all configs comes first, so that the table is complete early.
    return [row[i] for i, row in product(range(len(seeds)), runs)], configs


def prepare_config(path: Path, work_dir: Path, settings: RunSettings) -> tuple[Config, str]:
    """Load a config, apply the settings, and compute its digest.

    Raises:
        ConfigError: the config cannot be read, has no key for an option, or does not train by epochs.
    """
    cfg = load_config(path, settings.cfg_options)
    epochs = cfg.train_cfg.get("max_epochs")
    if epochs is None:
        raise ConfigError(f"config {path} has no train_cfg.max_epochs: runs of an experiment are trained by epochs")
    if settings.epochs is not None:
        for scheduler in cfg.get("param_scheduler") or []:
            for key in ("end", "T_max"):
                if scheduler.get("by_epoch", True) and scheduler.get(key) == epochs:
                    scheduler[key] = settings.epochs
        cfg.train_cfg.max_epochs = epochs = settings.epochs
    cfg.train_cfg.val_interval = epochs
    cfg.default_hooks.checkpoint = None
    datasets = [cfg[key].dataset for key in LOADERS if cfg[key].dataset.type == "PhantomCT"]
    for dataset, count in zip(datasets, (settings.cases, settings.val_cases)):
        dataset.num_cases = count or dataset.num_cases
    digest = hashlib.sha256(cfg.pretty_text.encode()).hexdigest()[:16]
    for dataset in datasets:
        # Absolute, so that it does not depend on the current folder of a run. Set after the digest is computed, so
        # that the work folder can be moved.
        dataset.setdefault("cache_dir", str((work_dir / "phantoms").absolute()))
    return cfg, digest


def generate_phantoms(configs: Sequence[Config]) -> None:
    """Fill the phantom caches before the runs start, so that parallel runs do not generate the same cases."""
    generated: list[dict[str, Any]] = []
    for cfg, key in product(configs, LOADERS):
        dataset = cfg[key].dataset.to_dict()
        arguments = {name: value for name, value in dataset.items() if name not in ("type", "pipeline")}
        if dataset["type"] == "PhantomCT" and arguments not in generated:
            generated.append(arguments)
            DATASETS.build(dict(type="PhantomCT", **arguments)).draw_all()
