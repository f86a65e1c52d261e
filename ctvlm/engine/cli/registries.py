"""Access to all registries of ctvlm and mmengine."""

from __future__ import annotations

import mmengine.registry
from mmengine.registry import Registry

import ctvlm.registry


def all_registries() -> list[Registry]:
    """Every registry of ctvlm and mmengine, each once."""
    modules = (ctvlm.registry, mmengine.registry)
    registries = [value for module in modules for value in vars(module).values() if isinstance(value, Registry)]
    return list({id(registry): registry for registry in registries}.values())
