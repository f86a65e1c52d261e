"""Every registered component of a vision model passes the contract check of its kind."""

from __future__ import annotations

import pytest
import torch

from ctvlm.models.region_encoders import overlap, patch_overlap
from ctvlm.registry import BACKBONES
from ctvlm.structures import Anatomy
from ctvlm.testing.building import Recipe
from ctvlm.testing.inputs import GRID, body_volume, random_region_map
from tests.test_models.component_cases import CHECKS, REGISTRIES, TESTED_ELSEWHERE, VARIANTS, all_cases, case_id, check


@pytest.mark.parametrize("case", all_cases(), ids=case_id)
def test_contract(case):
    check(*case)


def test_lists_name_registered_components_only():
    registered = {name for registry in REGISTRIES.values() for name in registry.module_dict}
    assert {*CHECKS, *VARIANTS, *TESTED_ELSEWHERE} <= registered


@pytest.mark.parametrize("case", [c for c in all_cases() if c[0] == "backbone"], ids=case_id)
def test_backbone_does_not_compute_a_given_overlap_again(case, monkeypatch):
    recipe = Recipe(BACKBONES, case[1], case[2])
    backbone = recipe.build()
    size = tuple(g * p for g, p in zip(GRID, backbone.patch_size))
    region_map = random_region_map(2, size)
    anatomy = Anatomy(*patch_overlap(region_map, GRID, backbone.num_regions))
    volume, calls, original = body_volume(2, size, recipe.size("in_channels")), [], overlap.patch_overlap
    monkeypatch.setattr(overlap, "patch_overlap", lambda *args: calls.append(args) or original(*args))
    backbone(volume, region_map, torch.ones(2, 3))
    computed = len(calls)
    backbone(volume, region_map, torch.ones(2, 3), anatomy)
    assert len(calls) == computed
