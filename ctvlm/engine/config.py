"""Reading a config and laying the command line over it."""

from __future__ import annotations

import argparse
import inspect
import keyword
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from ctvlm.utils import CTVLMError


class ConfigError(CTVLMError):
    """A config that cannot be read, or an option that it has no place for."""


class ConfigOptions(DictAction):
    """argparse action of ``--cfg-options key=value ...``, where a value may hold spaces, as paths do."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Collect the pairs; say so when the equals sign is missing."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for pair in values:
            key, equals, value = pair.partition("=")
            if not equals:
                parser.error(f"--cfg-options takes key=value, found '{pair}'")
            # mmengine's reading of lists drops every space, so it is for lists only.
            is_list = any(mark in value for mark in ",[(")
            options[key] = self._parse_iterable(value) if is_list else self._parse_int_float_bool(value)
        setattr(namespace, self.dest, options)


def load_config(path: str | Path, options: dict | None = None) -> Config:
    """Read a config file and override it with ``options`` (dotted keys).

    Raises:
        ConfigError: no such file, it does not parse, or an option names no key of it.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"config not found: {path}{_similar(path)}")
    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:  # a config is Python: anything can go wrong in it, and all of it is the config's
        reason = error
        while isinstance(reason, ImportError) and (reason.__cause__ or reason.__context__):
            reason = reason.__cause__ or reason.__context__  # mmengine's says only which module it was
        raise ConfigError(f"config {path} cannot be read: {type(reason).__name__}: {reason}") from error
    if bad := [key for key in _keys(cfg.to_dict()) if keyword.iskeyword(str(key))]:
        raise ConfigError(f"config {path}: {bad} are words of Python's own, which no copy of a config can hold as keys")
    if options:
        known = (
            set(cfg) | set(inspect.signature(Runner.__init__).parameters) | {"find_unused_parameters", "load_strict"}
        )
        for key in options:
            top = key.split(".")[0]
            if top not in known:
                near = get_close_matches(top, known, n=1)
                hint = f": did you mean '{near[0]}'?" if near else f". Its keys: {', '.join(sorted(cfg))}"
                raise ConfigError(f"--cfg-options {key}: the config {path} has no '{top}'{hint}")
        try:
            cfg.merge_from_dict(options)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ConfigError(f"--cfg-options {options} do not fit the config {path}: {error}") from error
    return cfg


def set_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Command line before config before work_dirs/<name of the config>."""
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs") / Path(cfg.filename).stem)


def set_resume(cfg: Config, resume: str | None) -> str | None:
    """Prepare to go on from ``resume``: a path, or 'auto' for the last checkpoint in the work folder.

    Returns the checkpoint, ``None`` to start afresh (also when 'auto' finds none).
    """
    if resume is None:
        return None
    checkpoint = _last_checkpoint(Path(cfg.work_dir)) if resume == "auto" else resume
    if checkpoint is not None:
        cfg.load_from, cfg.resume = checkpoint, True
    return checkpoint


def drop_validation(cfg: Config) -> None:
    """Train without validating."""
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None


def enable_amp(cfg: Config) -> None:
    """Mixed precision: bfloat16 wherever the device has it, else float16 with loss scaling.

    Raises:
        ConfigError: the config names an optimizer wrapper of its own.
    """
    wrapper = cfg.optim_wrapper.get("type", "OptimWrapper")
    if wrapper in ("BFloat16OptimWrapper", "AmpOptimWrapper"):
        return
    if wrapper != "OptimWrapper":
        raise ConfigError(f"--amp cannot replace optim_wrapper.type '{wrapper}': expected 'OptimWrapper'")
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        cfg.optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")
    else:
        cfg.optim_wrapper.type = "BFloat16OptimWrapper"


def enable_lr_scaling(cfg: Config) -> None:
    """Scale the learning rate with the real batch size.

    Raises:
        ConfigError: the config does not say for which batch size its rate was chosen.
    """
    if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
        raise ConfigError(
            f"--auto-scale-lr: the config {cfg.filename} has no auto_scale_lr.base_batch_size, "
            "the batch size (over all devices) that its learning rate was chosen for"
        )
    cfg.auto_scale_lr.enable = True


def _last_checkpoint(work_dir: Path) -> str | None:
    note = work_dir / "last_checkpoint"
    if note.is_file() and (name := Path(note.read_text().strip()).name):
        # The note holds an absolute path, and the folder may have been moved since.
        return str(work_dir / name)
    # A run killed between its first checkpoint and the note.
    numbered = sorted((int(path.stem.rpartition("_")[2]), str(path)) for path in work_dir.glob("epoch_[0-9]*.pth"))
    return numbered[-1][1] if numbered else None


def _keys(value: Any) -> Iterator[Any]:
    """Keys of nested dicts."""
    if isinstance(value, dict):
        yield from value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        yield from _keys(item)


def _similar(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path("configs")
    candidates: Sequence[str] = [str(p) for p in sorted(folder.glob("*.py"))] if folder.is_dir() else []
    near = get_close_matches(str(path), candidates, n=1, cutoff=0.5)
    if near:
        return f". Did you mean {near[0]}?"
    return f". There are: {', '.join(candidates)}" if candidates else ""
