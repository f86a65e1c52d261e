"""The config of a released model: plain JSON without anything of the machine that it was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from mmengine.config import Config

from ctvlm.anatomy import DEFAULT_SCHEME, RegionScheme
from ctvlm.engine.checkpoint.files import CheckpointError

SCHEME_FILE = "region_scheme.json"
# Settings of one run on one machine.
RUN_SETTINGS = ("work_dir", "load_from", "resume", "launcher", "load_strict", "experiment_name", "env_cfg")


def portable_config(cfg: Config) -> tuple[dict[str, Any], RegionScheme]:
    """The config as JSON values, and its region scheme.

    Settings of one run (``work_dir``, ``load_from``, ...) are removed. Absolute paths are cut to the name of the file.
    ``scheme`` refers to the file that is released with the model.

    Raises:
        CheckpointError: a value is not plain JSON, or the model and its test data have different region schemes.
        FileNotFoundError: the file of a region scheme does not exist.
    """
    content = {key: value for key, value in cfg.to_dict().items() if key not in RUN_SETTINGS}
    scheme = _only_scheme(content)
    return _portable(content, ""), scheme


def restore_scheme(config: dict[str, Any], file: Path) -> dict[str, Any]:
    """Replace references to the released region scheme: by the name of an equal scheme of ctvlm, else by the path.

    Raises:
        FileNotFoundError, ValueError: as ``RegionScheme.load``.
    """
    scheme = RegionScheme.load(file)
    try:
        installed = RegionScheme.load(scheme.name)
    except FileNotFoundError:
        installed = None
    same = installed is not None and installed.fingerprint == scheme.fingerprint
    reference = scheme.name if same else str(file.resolve())

    def restored(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: restored(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [restored(item) for item in value]
        return reference if key == "scheme" and value == SCHEME_FILE else value

    return restored(config)


def file_name(path: str) -> str:
    """Last part of an absolute path or of one in a home folder; any other text is returned unchanged."""
    if path.startswith(("/", "~/")) and len(PurePosixPath(path).parts) > 1:
        return PurePosixPath(path).name
    windows = PureWindowsPath(path)
    return windows.name if windows.drive and windows.root else path


def _only_scheme(content: dict[str, Any]) -> RegionScheme:
    """The scheme of the model and of its test data."""
    loader = content.get("test_dataloader") or content.get("val_dataloader") or {}
    parts = {"model": content.get("model"), "test_dataloader": loader}
    found = {key: RegionScheme.load(value) for key, value in _schemes(parts)}
    if len({scheme.fingerprint for scheme in found.values()}) > 1:
        listed = ", ".join(f"{key} = {scheme.reference}" for key, scheme in found.items())
        raise CheckpointError(f"the config has several region schemes: {listed}; expected one, to be released with it")
    return next(iter(found.values()), None) or RegionScheme.load(DEFAULT_SCHEME)


def _schemes(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in pairs:
        if key == "scheme" and isinstance(item, str):
            yield f"{prefix}{key}", item
        yield from _schemes(item, f"{prefix}{key}.")


def _portable(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        if wrong := [name for name in value if not isinstance(name, str)]:
            raise CheckpointError(f"config {key}: found the key {wrong[0]!r}; expected text, to be written as JSON")
        return {name: _portable(item, f"{key}.{name}".lstrip(".")) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(item, f"{key}.{i}") for i, item in enumerate(value)]
    if key.rpartition(".")[2] == "scheme" and isinstance(value, str):
        return SCHEME_FILE
    if isinstance(value, (str, Path)):
        return file_name(str(value))
    if value is None or isinstance(value, (bool, int)) or isinstance(value, float) and math.isfinite(value):
        return value
    raise CheckpointError(f"config {key}: found {value!r}; expected a plain value, to be written as JSON")
