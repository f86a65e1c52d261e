"""Load a config and apply the command line to it."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from ctvlm.engine.checkpoint.upgrade import upgrade_config
from ctvlm.engine.cli.config_variables import (
    ConfigFile,
    load_with_variables,
    parse_config,
    variables,
    variables_set_for_bases,
)
from ctvlm.utils import CTVLMError

# Top-level keys that the Runner takes, CTVLMRunner's own included. Any other is a variable or belongs to a plugin.
RUNNER_SETTINGS = set(inspect.signature(Runner.__init__).parameters) | {"find_unused_parameters", "load_strict"}


class ConfigError(CTVLMError):
    """A config that cannot be read, or an option that it has no place for."""


def load_config(
    path: str | Path, options: dict | None = None, arguments: Mapping[str, str] = MappingProxyType({})
) -> Config:
    """Read a config file and override it with ``options`` (dotted keys).

    A variable of a config, such as ``ann_file`` of ``configs/_base_/datasets/manifest.py``, takes effect wherever the
    config uses it: from ``options``, and from a child config that assigns it.

    Args:
        path: the config file.
        options: dotted keys and values.
        arguments: keys that the calling tool takes as arguments of its own, and the arguments' names.

    Raises:
        ConfigError: no such file, it cannot be parsed, an option is not a key of it, or an option has no effect.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"config not found: {path}{_similar(path)}")
    cfg = _read(path, lambda: Config.fromfile(str(path)))
    file = parse_config(path)
    if values := variables_set_for_bases(file, cfg.to_dict(), but=RUNNER_SETTINGS):
        cfg = _read(path, lambda: load_with_variables(file, values))
    if bad := [key for key in _keys(cfg.to_dict()) if keyword.iskeyword(str(key))]:
        raise ConfigError(f"config {path}: the keys {bad} are reserved words of Python; rename them")
    return _with_options(cfg, file, values, options, arguments) if options else cfg


def _read(path: Path, evaluate: Callable[[], Config]) -> Config:
    return _upgraded(path, _evaluated(path, evaluate))


def _upgraded(path: Path, cfg: Config) -> Config:
    """The config with the current keys of its model, if an earlier version wrote it."""
    try:
        return upgrade_config(cfg)
    except CTVLMError as error:
        raise ConfigError(f"config {path}: {error}") from error


def _evaluated(path: Path, evaluate: Callable[[], Config]) -> Config:
    try:
        return evaluate()
    except Exception as error:  # a config is Python code and can raise anything
        reason = error
        while isinstance(reason, ImportError) and (reason.__cause__ or reason.__context__):
            reason = reason.__cause__ or reason.__context__  # mmengine's own message names only the module
        raise ConfigError(f"config {path} cannot be read: {type(reason).__name__}: {reason}") from error


def _with_options(cfg: Config, file: ConfigFile, values: dict, options: dict, arguments: Mapping[str, str]) -> Config:
    """``cfg`` with the options in it; ``values`` are the variables that its files have set for their bases."""
    known = set(cfg) | RUNNER_SETTINGS
    for key in options:
        top = key.split(".")[0]
        if top in arguments:
            raise ConfigError(f"--cfg-options {key}: use the argument {arguments[top]} instead")
        if top not in known:
            near = get_close_matches(top, known, n=1)
            hint = f": did you mean '{near[0]}'?" if near else f". Its keys: {', '.join(sorted(cfg))}"
            raise ConfigError(f"--cfg-options {key}: the config {file.path} has no '{top}'{hint}")
    used = variables(file) - RUNNER_SETTINGS
    for_variables = {key: value for key, value in options.items() if key.split(".")[0] in used}
    if for_variables:
        before = cfg
        merged = _merged(Config(before.to_dict(), filename=cfg.filename), for_variables).to_dict()
        values = {**values, **{key.split(".")[0]: merged[key.split(".")[0]] for key in for_variables}}
        cfg = _read(file.path, lambda: load_with_variables(file, values))
        for name in {key.split(".")[0] for key in for_variables}:
            if before.to_dict()[name] != values[name] and _without(before, name) == _without(cfg, name):
                raise ConfigError(_no_effect(name, before, file.path))
    for name in {key.split(".")[0] for key in options} - used - RUNNER_SETTINGS:
        # A variable whose uses are not to be seen, as in the copy of a config in a work folder.
        if _keys_from(cfg, name):
            raise ConfigError(_no_effect(name, cfg, file.path))
    cfg = _merged(cfg, {key: value for key, value in options.items() if key not in for_variables})
    cfg = _upgraded(file.path, cfg)
    if any(key.split(".")[0] == "custom_imports" for key in options):
        _evaluated(file.path, lambda: import_modules_from_strings(**cfg.custom_imports))
    return cfg


def _merged(cfg: Config, options: dict) -> Config:
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ConfigError(f"--cfg-options {options} do not fit the config {cfg.filename}: {error}") from error
    return cfg


def _without(cfg: Config, name: str) -> dict:
    return {key: value for key, value in cfg.to_dict().items() if key != name}


def _no_effect(name: str, cfg: Config, path: Path) -> str:
    keys = _keys_from(cfg, name)
    instead = f"set {', '.join(keys)}" if keys else "remove it"
    return f"--cfg-options {name}: nothing in the config {path} reads '{name}', so it has no effect; {instead}"


def _keys_from(cfg: Config, name: str) -> list[str]:
    """Dotted keys below the top level that are called ``name`` or hold the same value, unless it is a plain number."""
    value = cfg[name]
    comparable = isinstance(value, (str, dict, list, tuple)) and len(value) > 0
    others = _without(cfg, name)
    found = [
        key
        for key, other in _items(others)
        if "." in key and (key.rpartition(".")[2] == name or (comparable and other == cfg.to_dict()[name]))
    ]
    return [key for key in found if not any(key.startswith(f"{longer}.") for longer in found)]


def _items(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested dicts and lists."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in pairs:
        yield f"{prefix}{key}", item
        yield from _items(item, f"{prefix}{key}.")


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
