"""Load a config and apply command-line options to it."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from ctvlm.engine.checkpoint.last import last_checkpoint_of
from ctvlm.engine.checkpoint.upgrade import upgrade_config
from ctvlm.engine.cli.config_error import ConfigError
from ctvlm.engine.cli.config_items import config_items
from ctvlm.engine.cli.config_variables import (
    ConfigFile,
    load_with_variables,
    parse_config,
    variables,
    variables_set_for_bases,
)
from ctvlm.engine.cli.installed_configs import find_config, similar_configs
from ctvlm.utils import CTVLMError, check_out_folder

# Top-level keys that CTVLMRunner reads. Any other key is a variable or belongs to a plugin.
RUNNER_SETTINGS = set(inspect.signature(Runner.__init__).parameters) | {
    "compile",
    "find_unused_parameters",
    "load_strict",
}

Result = TypeVar("Result")


def load_config(
    path: str | Path, options: dict | None = None, arguments: Mapping[str, str] = MappingProxyType({})
) -> Config:
    """Read a config file and override it with ``options`` (dotted keys).

    If ``options`` or a child config sets a variable, such as ``ann_file`` of ``configs/_base_/datasets/manifest.py``,
    the new value is used wherever the config uses the variable. ``_base_`` can also name an installed config.

    Args:
        path: the config file, or the name of an installed config, such as ``vit3d_cot_contrastive``.
        options: dotted keys and values.
        arguments: keys that the tool sets with its own command-line arguments, and the names of these arguments.

    Raises:
        ConfigError: the file does not exist or cannot be parsed, or an option is not a key of it or has no effect.
    """
    path = config_path(path)
    file = _evaluated(path, lambda: parse_config(path))
    cfg = _read(path, lambda: load_with_variables(file, {}) if file.installed_bases else Config.fromfile(str(path)))
    if values := variables_set_for_bases(file, cfg.to_dict(), exclude=RUNNER_SETTINGS):
        cfg = _read(path, lambda: load_with_variables(file, values))
    if reserved := [key for key in _keys(cfg.to_dict()) if keyword.iskeyword(str(key))]:
        raise ConfigError(f"config {path}: the keys {reserved} are Python keywords: rename them")
    return _with_options(cfg, file, values, options, arguments) if options else cfg


def config_path(name: str | Path) -> Path:
    """Path of a config: the file of this name, else the installed config of this name.

    Raises:
        ConfigError: there is no such config; the message contains similar names.
    """
    path = Path(name)
    if path.is_file():
        return path
    if installed := find_config(path):
        return installed
    raise ConfigError(f"config not found: {path}{_similar(path)}")


def _read(path: Path, evaluate: Callable[[], Config]) -> Config:
    return _upgraded(path, _evaluated(path, evaluate))


def _upgraded(path: Path, cfg: Config) -> Config:
    """Convert a config that an earlier version wrote."""
    try:
        return upgrade_config(cfg)
    except CTVLMError as error:
        raise ConfigError(f"config {path}: {error}") from error


def _evaluated(path: Path, evaluate: Callable[[], Result]) -> Result:
    try:
        return evaluate()
    except Exception as error:  # a config is Python code and can raise anything
        reason: BaseException = error
        while isinstance(reason, ImportError) and (reason.__cause__ or reason.__context__):
            reason = reason.__cause__ or reason.__context__ or reason  # mmengine's message names only the module
        raise ConfigError(f"config {path} cannot be read: {type(reason).__name__}: {reason}") from error


def _with_options(cfg: Config, file: ConfigFile, values: dict, options: dict, arguments: Mapping[str, str]) -> Config:
    """Apply the options. ``values``: variables that child configs set for their base configs."""
    known = set(cfg) | RUNNER_SETTINGS
    for key in options:
        top = key.split(".")[0]
        if top in arguments:
            raise ConfigError(f"--cfg-options {key}: use the argument {arguments[top]}")
        if top not in known:
            matches = get_close_matches(top, known, n=1)
            hint = f": did you mean '{matches[0]}'?" if matches else f"; its keys are: {', '.join(sorted(cfg))}"
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
        # A variable that the file no longer reads, for example in the copy of a config in a work folder.
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
        raise ConfigError(f"--cfg-options {options} cannot be applied to the config {cfg.filename}: {error}") from error
    return cfg


def _without(cfg: Config, name: str) -> dict:
    return {key: value for key, value in cfg.to_dict().items() if key != name}


def _no_effect(name: str, cfg: Config, path: Path) -> str:
    keys = _keys_from(cfg, name)
    instead = f"set {', '.join(keys)}" if keys else "remove it"
    return f"--cfg-options {name}: the config {path} does not use '{name}', so the option has no effect: {instead}"


def _keys_from(cfg: Config, name: str) -> list[str]:
    """Dotted keys below the top level that have this name, or the same value (strings and non-empty containers)."""
    value = cfg[name]
    comparable = isinstance(value, (str, dict, list, tuple)) and len(value) > 0
    others = _without(cfg, name)
    keys = [
        key
        for key, other in config_items(others)
        if "." in key and (key.rpartition(".")[2] == name or (comparable and other == cfg.to_dict()[name]))
    ]
    return [key for key in keys if not any(key.startswith(f"{parent}.") for parent in keys)]


def set_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Set the work folder: the argument, else the config's, else ``work_dirs/<config name>``.

    Raises:
        OutputPathError: the run cannot write to it.
    """
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs") / Path(cfg.filename).stem)
    check_out_folder("work_dir" if work_dir is None else "--work-dir", cfg.work_dir)


def set_resume(cfg: Config, resume: str | None) -> str | None:
    """Resume from a checkpoint.

    Args:
        resume: a path, 'auto' for the last checkpoint in the work folder, or None.

    Returns:
        The checkpoint; None if the run starts from the beginning, also if 'auto' finds no checkpoint.
    """
    if resume is None:
        return None
    checkpoint = last_checkpoint_of(cfg, cfg.work_dir) if resume == "auto" else resume
    if checkpoint is not None:
        cfg.load_from, cfg.resume = checkpoint, True
    return checkpoint


def drop_validation(cfg: Config) -> None:
    """Train without validation."""
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None


def enable_amp(cfg: Config) -> None:
    """Use mixed precision: bfloat16 if the device supports it, else float16 with loss scaling.

    Raises:
        ConfigError: the config has another optimizer wrapper.
    """
    wrapper = cfg.optim_wrapper.get("type", "OptimWrapper")
    if wrapper in ("BFloat16OptimWrapper", "AmpOptimWrapper"):
        return
    if wrapper != "OptimWrapper":
        raise ConfigError(f"--amp: optim_wrapper.type is '{wrapper}'; expected 'OptimWrapper'")
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        cfg.optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")
    else:
        cfg.optim_wrapper.type = "BFloat16OptimWrapper"


def enable_lr_scaling(cfg: Config) -> None:
    """Scale the learning rate by the ratio of the actual batch size to ``auto_scale_lr.base_batch_size``.

    Raises:
        ConfigError: the config has no ``base_batch_size``.
    """
    if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
        raise ConfigError(
            f"--auto-scale-lr: the config {cfg.filename} has no auto_scale_lr.base_batch_size. Set it to the "
            "total batch size over all devices for which the learning rate was chosen"
        )
    cfg.auto_scale_lr.enable = True


def _keys(value: Any) -> Iterator[Any]:
    """Keys of nested dicts."""
    if isinstance(value, dict):
        yield from value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        yield from _keys(item)


def _similar(path: Path) -> str:
    if path.parent.is_dir():
        files: Sequence[str] = [str(file) for file in sorted(path.parent.glob("*.py"))]
        if matches := get_close_matches(str(path), files, n=1, cutoff=0.5):
            return f"; did you mean {matches[0]}?"
    if names := similar_configs(path):
        return f"; did you mean {' or '.join(names)}?"
    return "; 'ctvlm list configs' shows the installed ones"
