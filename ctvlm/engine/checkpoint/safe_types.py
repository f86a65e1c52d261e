"""Check the config of a checkpoint or released folder before its components are built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ctvlm.engine.checkpoint.files import CheckpointError
from ctvlm.engine.cli.registries import all_registries

# Values of "type" that name a choice, not a component.
CHOICES = frozenset({"none", "body"})
# The parts of a config from which ``init_model`` and the inferencers build components.
PARTS = ("model", "test_dataloader", "val_dataloader")


def check_types(cfg: Config, origin: str | Path) -> None:
    """Accept only registered components, because mmengine's registries import any other name, such as ``os.system``.

    Raises:
        CheckpointError: a ``type`` is not registered, or the config sets ``_scope_`` or ``trust_remote_code``, which
            import code, too.
    """
    known = CHOICES.union(*(registry.module_dict for registry in all_registries()))
    for key, value in _settings({part: cfg.get(part) for part in PARTS}):
        name = key.rpartition(".")[2]
        if name == "type" and not (isinstance(value, str) and value in known):
            imports = (cfg.get("custom_imports") or {}).get("imports") or []
            modules = ", ".join([imports] if isinstance(imports, str) else imports)
            needs = f"This config needs: import {modules}" if modules else "Import the module that registers it"
            needs += f". On the command line, name a config that imports it, and {origin} as its checkpoint"
            raise CheckpointError(f"the config in {origin}: {key} is {value!r}, which is not registered. {needs}")
        if name == "_scope_" or (name == "trust_remote_code" and value):
            raise CheckpointError(
                f"the config in {origin}: found {key}={value!r}, which would run code from elsewhere. If you trust it, "
                "pass the config as a file"
            )


def _settings(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every (dotted key, value) at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, item in items:
        path = f"{key}.{name}" if key else str(name)
        yield path, item
        yield from _settings(item, path)
