"""Random fields of view and intensities of regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctvlm.datasets.transforms import RandomRegionContrastCT, RandomResizedCropCT
from tests.test_datasets.test_augmentation import SCHEME, case


def centre(results: dict, number: int) -> np.ndarray:
    """Centre of a region in mm."""
    zyx = np.argwhere(results["region_map"] == number).mean(axis=0)
    return results["affine"][:3, :3] @ zyx[::-1] + results["affine"][:3, 3]


def test_whole_body_keeps_text_and_positions():
    results = RandomResizedCropCT((24, 40, 48), p=0.0)(case())
    assert results["volume"].shape == results["region_map"].shape == (24, 40, 48)
    assert results["report"] == case()["report"] and results["cot"] == case()["cot"]
    for number in set(np.unique(results["region_map"]).tolist()) - {0}:
        assert np.allclose(centre(results, number), centre(case(), number), atol=4)


@pytest.mark.parametrize("seed", range(8))
def test_box_keeps_positions_and_only_true_steps(seed):
    torch.manual_seed(seed)
    results = RandomResizedCropCT((12, 20, 24), scale_z=(0.3, 0.6), scale_xy=(0.4, 0.7))(case())
    assert results["report"] == {}
    present = {SCHEME.name_of(int(i)) for i in np.unique(results["region_map"]) if i}
    for step in results["cot"]:
        assert not step["regions"] or present & set(step["regions"])
        assert step.get("lesion") is None or (results["lesion_map"] == step["lesion"]).any()
    for number in (1, 4, 17):
        kept = results["region_kept"].get(SCHEME.name_of(number), 0)
        if kept == 1:
            assert np.allclose(centre(results, number), centre(case(), number), atol=2.5)
    assert np.allclose(results["spacing"], np.linalg.norm(results["affine"][:3, :3], axis=0)[::-1])


@pytest.mark.parametrize("scale", [(0.0, 0.5), (0.8, 0.5), (0.5, 1.2)])
def test_wrong_scale_is_an_error(scale):
    with pytest.raises(ValueError, match="scale_z"):
        RandomResizedCropCT((8, 8, 8), scale_z=scale)


def test_each_region_has_one_offset_and_air_none():
    torch.manual_seed(0)
    before, after = case(), RandomRegionContrastCT(max_std=50, p=1.0)(case())
    change = after["volume"] - before["volume"].astype(np.float32)
    offsets = {i: change[before["region_map"] == i] for i in (1, 2, 4, 17)}
    assert all(np.ptp(values) < 1e-3 for values in offsets.values())
    assert len({float(values[0]) for values in offsets.values()}) == 4
    assert (change[before["volume"] <= -900] == 0).all()
    with pytest.raises(ValueError, match="-1"):
        RandomRegionContrastCT(max_std=-1)
