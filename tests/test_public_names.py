"""The public API: registered components, and ``__all__`` of every package that has one.

Adding, removing or renaming a public name is a deliberate edit of ``public_names.txt``, made with
``python tests/test_public_names.py``, and belongs in CHANGELOG.md.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from mmengine.registry import Registry

import ctvlm
import ctvlm.registry

LIST = Path(__file__).with_name("public_names.txt")


def registered_names() -> set[str]:
    """``REGISTRY.Component`` of everything that ctvlm itself registers."""
    names = set()
    for registry_name, registry in vars(ctvlm.registry).items():
        if isinstance(registry, Registry) and registry.scope == "ctvlm":
            registry.import_from_location()
            for name, component in registry.module_dict.items():
                if component.__module__.startswith("ctvlm."):
                    names.add(f"{registry_name}.{name}")
    return names


def exported_names() -> set[str]:
    """``package.name`` of each entry of ``__all__``."""
    packages = [m.name for m in pkgutil.walk_packages(ctvlm.__path__, "ctvlm.") if m.ispkg]
    modules = [importlib.import_module(name) for name in ["ctvlm", *packages]]
    return {f"{module.__name__}.{name}" for module in modules for name in getattr(module, "__all__", ())}


def public_names() -> list[str]:
    return sorted(registered_names() | exported_names())


def test_public_names_are_those_of_the_list():
    listed, present = set(LIST.read_text(encoding="utf-8").split()), set(public_names())
    hint = f"run python tests/{Path(__file__).name} if this is intended"
    assert not listed - present, f"removed: {sorted(listed - present)}; {hint}"
    assert not present - listed, f"added: {sorted(present - listed)}; {hint}"


def test_every_exported_name_exists():
    for name in exported_names():
        package, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(package), attribute), name


if __name__ == "__main__":
    LIST.write_text("".join(f"{name}\n" for name in public_names()), encoding="utf-8")
