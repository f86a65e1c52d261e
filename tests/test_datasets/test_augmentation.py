"""Augmentations change image, maps and text consistently and use seeded generators only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ctvlm.anatomy import RegionScheme
from ctvlm.datasets.transforms import PackCTInputs
from ctvlm.datasets.transforms.random_flip import partner_table
from ctvlm.engine.loops.seeded_loader import SeededLoader
from ctvlm.registry import TRANSFORMS
from ctvlm.text import split_sentences
from ctvlm.utils import seed_everything

SCHEME = RegionScheme.load()
ALL = [
    dict(type="RandomFlipCT", p=0.5),
    dict(type="RandomAffineCT", p=1.0),
    dict(type="RandomIntensityCT", log_gamma=0.02, p=1.0),
    dict(type="RandomNoiseCT", p=1.0),
    dict(type="RandomCropCT", shape=(10, 16, 16)),
    dict(type="RandomResizedCropCT", shape=(8, 16, 16), p=1.0),
    dict(type="RandomRegionContrastCT", p=1.0),
    dict(type="TorchIOTransform", name="RandomBlur", std=(0, 1), p=0.5),
    dict(type="ShuffleSentences", p=1.0),
    dict(type="DropSections", step_p=0.3, section_p=0.3),
]


def case() -> dict:
    hu = np.full((12, 20, 24), -1000, np.int16)
    regions = np.zeros(hu.shape, np.uint8)
    lesion = np.zeros(hu.shape, np.uint8)
    # x increases to the right: right upper and middle lobe, left upper lobe, right kidney.
    for number, box, value in (
        (1, np.s_[8:11, 4:16, 14:21], -800),
        (2, np.s_[5:8, 4:16, 14:21], -850),
        (4, np.s_[5:11, 4:16, 3:10], -820),
        (17, np.s_[1:4, 4:8, 15:19], 30),
    ):
        regions[box], hu[box] = number, value
    lesion[5:7, 6:9, 15:18] = 1
    return dict(
        case_id="a",
        patient_id="a",
        split="train",
        scheme=SCHEME.name,
        volume=hu,
        region_map=regions,
        lesion_map=lesion,
        affine=np.diag([2.0, 2.0, 4.0, 1.0]),
        spacing=(4.0, 2.0, 2.0),
        report=dict(findings="Cyst of the right kidney. No more.", impression="Right middle lobe nodule."),
        cot=[
            dict(
                step=1,
                text="A nodule lies in the right middle lobe. It measures 8 mm. No effusion.",
                regions=["lung_middle_lobe_right"],
                entities=["right nodule"],
                lesion=1,
            ),
            dict(step=2, text="Cyst of the right kidney.", regions=["kidney_right"], entities=[], lesion=None),
        ],
        labels={"Lung nodule": 1},
    )


def build(*specs: dict) -> list:
    return [TRANSFORMS.build(spec) for spec in specs]


def run(transforms: list, results: dict) -> dict:
    for transform in transforms:
        results = transform(results)
    return results


def test_flip_swaps_voxels_ids_and_words():
    before = case()
    after = build(dict(type="RandomFlipCT", p=1.0))[0](case())
    assert np.array_equal(after["volume"], before["volume"][..., ::-1])
    assert np.array_equal(after["lesion_map"], before["lesion_map"][..., ::-1])
    mirrored = before["region_map"][..., ::-1]
    assert set(np.unique(after["region_map"])) == {0, 1, 4, 18}
    for old, new in ((1, 4), (2, 4), (4, 1), (17, 18)):
        assert (after["region_map"][mirrored == old] == new).all()
    assert after["report"]["impression"] == "Lingula nodule."
    assert after["cot"][0]["regions"] == ["lung_upper_lobe_left"]
    assert after["cot"][0]["entities"] == ["left nodule"]
    assert after["cot"][1] == {**before["cot"][1], "text": "Cyst of the left kidney.", "regions": ["kidney_left"]}
    assert after["report"]["findings"].startswith("Cyst of the left kidney.")


def test_flip_changes_all_texts_and_masks():
    before = {
        **case(),
        "labels": {"Right cyst": 1, "Left cyst": 0},
        "lesion_masks": [dict(path="a", id=1, name="nodule_right")],
        "coarse_masks": {"lung_right": case()["region_map"] == 1},
    }
    before["cot"][0]["question"] = "What is in the Rt. lung?"
    after = build(dict(type="RandomFlipCT", p=1.0))[0](before)
    assert after["labels"] == {"Right cyst": 0, "Left cyst": 1}
    assert after["lesion_masks"][0]["name"] == "nodule_left"
    assert np.array_equal(after["coarse_masks"]["lung_left"], before["coarse_masks"]["lung_right"][..., ::-1])
    assert after["cot"][0]["question"] == "What is in the Lt. lung?"


@pytest.mark.parametrize(
    "change",
    [
        dict(report=dict(findings="Zyste der rechten Niere.", impression="Nodule.")),
        dict(report=dict(note="右肺结节", impression="Nodule.")),
        dict(labels={"Kyste rénal gauche": 1}),
        dict(cot=[dict(text="Узел справа.", regions=[], entities=[], lesion=None)]),
        dict(cot=[dict(text="Nodule.", regions=[], entities=["Stent in LAD"], lesion=None)]),
        dict(cot=[dict(text="Nodule.", question="Links?", regions=[], entities=[], lesion=None)]),
        dict(lesion_masks=[dict(path="a", id=1, name="Herd links")]),
    ],
)
def test_case_with_ambiguous_side_is_not_flipped(change):
    before = {**case(), **change}
    after = build(dict(type="RandomFlipCT", p=1.0))[0](before)
    assert after is before


def test_partner_table_is_symmetric_except_middle_lobe():
    table = partner_table(SCHEME)
    twice = table[table]
    assert [i for i in range(21) if twice[i] != i] == [2] and table[2] == 4


def test_torchio_flip_and_unknown_name_raise():
    with pytest.raises(ValueError, match="RandomFlipCT"):
        build(dict(type="TorchIOTransform", name="RandomFlip"))
    with pytest.raises(ValueError, match="'Nope'"):
        build(dict(type="TorchIOTransform", name="Nope"))


@pytest.mark.parametrize("spec", ALL, ids=lambda s: s["type"])
def test_transform_does_not_change_input(spec):
    seed_everything(0)
    before = case()
    kept = {key: before[key].copy() for key in ("volume", "region_map", "lesion_map")}
    after = build(spec)[0](before)
    assert all(np.array_equal(before[key], kept[key]) for key in kept), "the input was changed"
    assert after["volume"].shape == after["region_map"].shape == after["lesion_map"].shape
    assert after["region_map"].dtype == after["lesion_map"].dtype == np.uint8
    assert set(np.unique(after["region_map"])) <= {0, 1, 2, 4, 17, 18}
    PackCTInputs()(after)


def test_affine_moves_maps_with_image():
    seed_everything(3)
    transform = build(dict(type="RandomAffineCT", degrees=20, translation=4, p=1.0))[0]
    before = case()
    after = transform(before)
    assert (after["region_map"] != before["region_map"]).sum() > 30
    inside = after["region_map"] == 4
    # Linear and nearest-neighbour interpolation differ only at the border.
    assert np.median(after["volume"][inside]) == pytest.approx(-820, abs=2)
    # Outside voxels must be air instead of 0 HU.
    assert after["volume"].min() >= -1024


def test_intensity_and_noise_are_in_hu():
    seed_everything(1)
    flat = {**case(), "volume": np.full((12, 20, 24), 100, np.int16)}
    noisy = build(dict(type="RandomNoiseCT", std=25, p=1.0))[0](flat)["volume"]
    assert 0 < noisy.std() < 27 and noisy.mean() == pytest.approx(100, abs=2)
    shifted = [build(dict(type="RandomIntensityCT", p=1.0))[0](flat)["volume"].mean() for _ in range(20)]
    assert max(abs(v - 100) for v in shifted) <= 20.1 and np.std(shifted) > 3
    bent = build(dict(type="RandomIntensityCT", shift=0, contrast=0, log_gamma=0.02, p=1.0))[0](flat)["volume"]
    assert bent.std() < 1e-2 and 0.1 < abs(bent.mean() - 100) < 40


def test_crop_updates_affine_and_drops_steps():
    seed_everything(0)
    results = {**case(), "region_map": np.where(case()["region_map"] == 17, 0, case()["region_map"])}
    crop = build(dict(type="RandomCropCT", shape=(12, 20, 30), drop_unseen=True))[0](results)
    assert crop["volume"].shape == (12, 20, 30) and (crop["volume"][..., 24:] == -1024).all()
    assert [step["step"] for step in crop["cot"]] == [1]
    small = build(dict(type="RandomCropCT", shape=(4, 6, 8)))[0](case())
    start = np.rint(np.linalg.inv(case()["affine"]) @ small["affine"][:, 3]).astype(int)[:3][::-1]
    box = tuple(slice(s, s + n) for s, n in zip(start, (4, 6, 8)))
    assert np.array_equal(small["volume"], case()["volume"][box])


def test_sentences_are_shuffled_within_steps():
    text = "A nodule lies here. It measures 3.5 mm. No effusion. Dr. Who agrees."
    assert split_sentences(text) == ["A nodule lies here.", "It measures 3.5 mm.", "No effusion.", "Dr. Who agrees."]
    shuffle = build(dict(type="ShuffleSentences", p=1.0))[0]
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        (step,) = shuffle(dict(cot=[dict(text=text)]))["cot"]
        assert "lies here. It measures" in step["text"], "a referring sentence was separated"
        assert sorted(split_sentences(step["text"])) == sorted(split_sentences(text))
        seen.add(step["text"])
    assert len(seen) > 3


def test_drop_sections_keeps_one_step():
    drop = build(dict(type="DropSections", step_p=1.0, section_p=1.0))[0]
    after = drop(case())
    assert len(after["cot"]) == 1 and set(after["report"]) == {"impression"}


class _Cases(torch.utils.data.Dataset):
    def __init__(self):
        self.transforms = build(*ALL)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        out = run(self.transforms, case())
        return out["volume"], [step["text"] for step in out["cot"]]


def _epoch(seed: int, workers: int) -> list:
    loader = DataLoader(_Cases(), batch_size=2, num_workers=workers, collate_fn=list)
    return [case for batch in SeededLoader(loader, seed) for case in batch]


def test_augmentations_are_reproducible_with_any_number_of_workers():
    first, second, other = _epoch(5, 0), _epoch(5, 2), _epoch(6, 0)
    for (a, text_a), (b, text_b) in zip(first, second, strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b)) and text_a == text_b
    assert any(not torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for (a, _), (b, _) in zip(first, other))
    assert not torch.equal(torch.as_tensor(first[0][0]), torch.as_tensor(first[1][0])), (
        "all cases have equal augmentations"
    )
