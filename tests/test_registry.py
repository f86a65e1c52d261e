from __future__ import annotations

import mmengine.registry
import pytest
from mmengine.registry import Registry

import ctvlm.registry

REGISTRIES = {
    name: value
    for name, value in vars(ctvlm.registry).items()
    if isinstance(value, Registry) and not name.startswith("MMENGINE")
}
KINDS = {name: registry for name, registry in REGISTRIES.items() if registry.parent is None}


def components() -> list:
    found = []
    for registry in REGISTRIES.values():
        registry.import_from_location()
    for name, registry in REGISTRIES.items():
        for component, value in registry.module_dict.items():
            # Other tests register toys.
            if value.__module__.startswith("ctvlm."):
                found.append(pytest.param(registry, component, value, id=f"{name}-{component}"))
    return found


def test_what_the_runner_builds_has_a_parent_and_parts_of_models_have_none():
    assert set(KINDS) == {
        "LAYERS",
        "ATTENTION",
        "REGION_ENCODERS",
        "BACKBONES",
        "TOWERS",
        "NECKS",
        "OBJECTIVES",
        "HEADS",
        "TEXT_ENCODERS",
        "LOSSES",
        "REPORT_SCORERS",
    }
    for name, registry in REGISTRIES.items():
        assert registry.scope == "ctvlm"
        if name not in KINDS:
            assert registry.parent is getattr(mmengine.registry, name)


@pytest.mark.parametrize("name", REGISTRIES)
def test_unknown_name_is_refused_by_name_of_component_and_registry(name):
    registry = REGISTRIES[name]
    with pytest.raises(KeyError, match=f"NoSuchThing is not in the ctvlm::{registry.name} registry"):
        registry.build({"type": "NoSuchThing"})


def test_mmengines_components_are_found_beside_ours():
    assert ctvlm.registry.HOOKS.get("CheckpointHook") is not None
    assert ctvlm.registry.HOOKS.get("PlainCheckpointHook") is not None
    assert ctvlm.registry.BACKBONES.get("ImgDataPreprocessor") is None


@pytest.mark.parametrize(("registry", "name", "component"), components())
def test_component_lies_where_its_registry_looks_and_says_what_it_is(registry, name, component):
    # Importing ctvlm.a.b runs ctvlm.a first, so the same package is near enough.
    packages = {".".join(place.split(".")[:2]) for place in registry._locations}
    assert ".".join(component.__module__.split(".")[:2]) in packages
    assert (component.__doc__ or "").strip(), f"{name} has no docstring"


def test_no_component_hides_one_of_another_registry():
    owners = {}
    for param in components():
        registry, name, component = param.values
        assert owners.setdefault(name, component) is component, f"{name} means two things"
