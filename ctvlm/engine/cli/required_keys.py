"""Keys without which mmengine's Runner fails with an error that does not name the place in the config."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from ctvlm.engine.cli.config_error import ConfigError


def check_required_keys(cfg: Mapping[str, Any]) -> None:
    """Check data loaders, optimizer wrapper and schedulers of a config.

    Raises:
        ConfigError: a data loader has no ``dataset``, the optimizer wrapper has no ``optimizer``, or an optimizer or a
            scheduler has no ``type``.
    """
    for place, section, key in _required(cfg):
        if key not in section:
            raise ConfigError(missing_key(place, section, key))


def missing_key(place: str, found: Collection[str], key: str) -> str:
    """Message for a section of the config without a key."""
    names = ", ".join(f"'{name}'" for name in found) or "no keys"
    text = f"{place}: found {names}; expected a key '{key}'"
    if wrong := get_close_matches(key, list(found), n=1):
        return f"{text}: did you mean '{key}' instead of '{wrong[0]}'?"
    return text


def _required(cfg: Mapping[str, Any]) -> Iterator[tuple[str, Mapping, str]]:
    """Places, their sections, and the required key."""
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if isinstance(loader := cfg.get(name), Mapping):
            yield name, loader, "dataset"
    wrapper = cfg.get("optim_wrapper")
    if isinstance(wrapper, Mapping) and "constructor" not in wrapper:
        yield "optim_wrapper", wrapper, "optimizer"
        if isinstance(wrapper["optimizer"], Mapping):
            yield "optim_wrapper.optimizer", wrapper["optimizer"], "type"
    schedulers = cfg.get("param_scheduler")
    for number, scheduler in enumerate(schedulers if isinstance(schedulers, (list, tuple)) else ()):
        if isinstance(scheduler, Mapping):
            yield f"param_scheduler.{number}", scheduler, "type"
