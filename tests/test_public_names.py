"""What configs and other people's code name must not vanish unnoticed.

Adding is free. Removing or renaming a component is a deliberate edit of ``public_names.txt``, made with
``python tests/test_public_names.py``.
"""

from __future__ import annotations

from pathlib import Path

from mmengine.registry import Registry

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


def test_no_name_is_lost():
    lost = set(LIST.read_text().split()) - registered_names()
    assert not lost, f"no longer registered: {sorted(lost)}; if that is meant, run python {Path(__file__).name}"


if __name__ == "__main__":
    LIST.write_text("".join(f"{name}\n" for name in sorted(registered_names())))
