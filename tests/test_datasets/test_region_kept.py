"""Crops, windows and shifts record the remaining fraction of each region, and cut regions are no training pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctvlm.anatomy import RegionScheme
from ctvlm.datasets.transforms import LoadStore, PackCTInputs, RandomCropCT, RandomShiftCT, ResampleCT
from ctvlm.models.objectives.region_mentions import RegionMentions
from ctvlm.registry import TRANSFORMS
from ctvlm.volume import CTVolume
from ctvlm.volume.store import StoredArray, encode

SCHEME = RegionScheme.load()
MIDDLE, LUL, KIDNEY, LIVER = 2, 4, 17, 12
BOXES = {MIDDLE: np.s_[2:6, 2:8, 16:22], LUL: np.s_[2:8, 4:16, 3:10], KIDNEY: np.s_[10:14, 12:18, 12:20]}


def case() -> dict:
    region_map = np.zeros((16, 20, 24), np.uint8)
    for region, box in BOXES.items():
        region_map[box] = region
    return dict(
        case_id="a",
        patient_id="a",
        scheme=SCHEME.name,
        volume=np.where(region_map > 0, 40, -1000).astype(np.int16),
        region_map=region_map,
        affine=np.diag([2.0, 2.0, 4.0, 1.0]),
        spacing=(4.0, 2.0, 2.0),
        cot=[dict(text=f"Cyst of the {SCHEME.name_of(region)}.", regions=[SCHEME.name_of(region)]) for region in BOXES],
    )


def naive_fractions(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    return {SCHEME.name_of(r): int((after == r).sum()) / int((before == r).sum()) for r in BOXES if (before == r).any()}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "transform",
    [RandomCropCT((9, 12, 14)), RandomShiftCT((4, 6, 6)), ResampleCT(spacing=(4, 2, 2), shape=(10, 12, 14))],
    ids=lambda t: type(t).__name__,
)
def test_fractions_equal_naive_count(transform, seed):
    torch.manual_seed(seed)
    before = case()
    after = transform(before)
    assert after["region_kept"] == pytest.approx(naive_fractions(before["region_map"], after["region_map"]))
    assert "region_kept" not in before


@pytest.mark.parametrize("seed", range(5))
def test_fractions_of_successive_crops_are_multiplied(seed):
    torch.manual_seed(seed)
    before = case()
    after = RandomShiftCT((3, 5, 5))(RandomCropCT((12, 16, 18))(before))
    assert after["region_kept"] == pytest.approx(naive_fractions(before["region_map"], after["region_map"]))


def test_case_without_region_map_has_no_fractions():
    after = RandomShiftCT()(RandomCropCT((9, 12, 14))({**case(), "region_map": None}))
    assert "region_kept" not in after
    assert PackCTInputs()(after)["data_samples"].region_kept == {}


def test_store_windows_record_fractions(tmp_path):
    pytest.importorskip("blosc2")
    before = case()
    for key in ("volume", "region_map"):
        (tmp_path / key).with_suffix(".b2nd").write_bytes(encode(CTVolume(before[key], before["affine"])))
    line = dict(before, volume={"path": f"{tmp_path}/volume.b2nd"}, region_map={"path": f"{tmp_path}/region_map.b2nd"})
    assert StoredArray(tmp_path / "region_map.b2nd").label_counts()[MIDDLE] == 4 * 6 * 6
    for seed in range(5):
        torch.manual_seed(seed)
        after = LoadStore(window=(9, 12, 30))(line)
        assert after["region_kept"] == pytest.approx(naive_fractions(before["region_map"], after["region_map"]))
    assert LoadStore()(line)["region_kept"] == {}
    # Fractions from preprocessing are stored in the manifest and multiplied.
    torch.manual_seed(0)
    plain = LoadStore(window=(9, 12, 30))(line)["region_kept"]
    torch.manual_seed(0)
    halved = LoadStore(window=(9, 12, 30))({**line, "extra": {"region_kept": dict.fromkeys(plain, 0.5)}})["region_kept"]
    assert halved == pytest.approx({name: share / 2 for name, share in plain.items()})


def test_scaling_does_not_reduce_fractions():
    # Three times the resolution, because nearest-neighbour counts of small regions are inaccurate.
    fine = case()
    for key in ("volume", "region_map"):
        fine[key] = np.kron(fine[key], np.ones((3, 3, 3), fine[key].dtype))

    def shares(**options):
        cfg = dict(type="TorchIOTransform", name="Affine", degrees=0, **options)
        return TRANSFORMS.build(cfg)(fine)["region_kept"]

    for scale in (0.8, 1.1):
        assert all(share > 0.85 for share in shares(scales=scale, translation=0).values())
    # 72 voxels of 2 mm along x; the middle lobe covers 48 to 66.
    moved = shares(scales=1, translation=(30, 0, 0))
    assert moved[SCHEME.name_of(MIDDLE)] == pytest.approx(0.5)
    assert moved[SCHEME.name_of(LUL)] == 1.0


def test_noise_records_no_fractions():
    assert "region_kept" not in TRANSFORMS.build(dict(type="RandomNoiseCT", p=1.0))(case())


def test_flip_swaps_region_names():
    kept = {SCHEME.name_of(MIDDLE): 0.2, SCHEME.name_of(1): 0.9, SCHEME.name_of(KIDNEY): 0.4}
    after = TRANSFORMS.build(dict(type="RandomFlipCT", p=1.0))({**case(), "region_kept": kept})
    partners = SCHEME.partner_ids()
    # Right upper and middle lobe become the left upper lobe.
    assert after["region_kept"] == {SCHEME.name_of(LUL): 0.2, SCHEME.name_of(partners[KIDNEY]): 0.4}


def test_cut_regions_are_not_paired():
    sample = PackCTInputs()({**case(), "region_kept": {SCHEME.name_of(MIDDLE): 0.4, SCHEME.name_of(LUL): 0.6}})
    samples = [sample["data_samples"]]
    visible = torch.ones(1, SCHEME.num_regions, dtype=torch.bool)

    def pairs(**options):
        return RegionMentions.from_samples(samples, visible, **options).regions.tolist()

    assert pairs() == [LUL, KIDNEY]
    assert pairs(min_kept=0.0) == [MIDDLE, LUL, KIDNEY]
    assert pairs(min_kept=0.7) == [KIDNEY]
