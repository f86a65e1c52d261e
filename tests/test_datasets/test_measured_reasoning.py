"""Numbers and terms of measured text agree with the arrays."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ctvlm.anatomy import RegionScheme
from ctvlm.datasets.measured_reasoning import MeasuredReasoning
from ctvlm.datasets.measurements import contact_areas, measure_labels

SCHEME = RegionScheme.load()


def case(case_id="c0", right=20, left=10, seed=0) -> dict:
    """Two complete kidneys of known size, and a liver cut by the upper edge and in contact with the right kidney."""
    rng = np.random.default_rng(seed)
    regions = np.zeros((20, 30, 60), np.uint8)
    regions[4:10, 10:20, 40 - 1 : 40 - 1 + right] = 17
    regions[4:10, 10:20, 4 : 4 + left] = 18
    regions[10:20, 5:25, 35:58] = 12
    hu = rng.integers(-30, 30, regions.shape).astype(np.int16)
    hu[regions == 12] += 60
    hu[regions == 17] += 150
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    return dict(case_id=case_id, patient_id="p", volume=hu, region_map=regions, affine=affine, spacing=(5.0, 2.0, 2.0))


def step_about(results, *names):
    return next(s for s in results["cot"] if s["regions"] == list(names))


def test_volume_and_hu_equal_mask():
    data = case()
    results = MeasuredReasoning()(data)
    for name in ("liver", "kidney_right", "kidney_left"):
        mask = data["region_map"] == SCHEME.id_of(name)
        text = step_about(results, name)["text"]
        assert float(re.search(r"([\d.]+) ml", text)[1]) == pytest.approx(mask.sum() * 0.02, abs=0.5)
        assert float(re.search(r"(-?\d+) HU", text)[1]) == pytest.approx(data["volume"][mask].mean(), abs=0.5)


def test_cut_regions_are_reported():
    results = MeasuredReasoning()(case())
    assert "cut by the upper edge" in step_about(results, "liver")["text"]
    assert "cut" not in step_about(results, "kidney_left")["text"]


@pytest.mark.parametrize(("right", "left"), [(18, 9), (9, 18), (10, 10)])
def test_asymmetry_reports_larger_side(right, left):
    results = MeasuredReasoning()(case(right=right, left=left))
    text = next(s["text"] for s in results["cot"] if set(s["regions"]) == {"kidney_right", "kidney_left"}).lower()
    if right == left:
        assert re.search("nearly equal|no asymmetry", text)
    else:
        first = "right kidney" if right > left else "left kidney"
        assert "100%" in text
        assert text.index(first) == min(text.index("right kidney"), text.index("left kidney"))


def test_contact_area_and_neighbours():
    data = case()
    areas = contact_areas(data["region_map"], data["spacing"])
    # 10 rows by 19 columns of upper faces, 2 mm by 2 mm each.
    assert areas == {(12, 17): pytest.approx(10 * 19 * 4.0)}
    text = step_about(MeasuredReasoning()(data), "liver", "kidney_right")["text"]
    assert "liver" in text
    assert "right kidney" in text


def test_contact_areas_equal_naive_count():
    labels = np.random.default_rng(0).integers(0, 4, (4, 5, 6)).astype(np.uint8)
    naive: dict = {}
    for index in np.ndindex(labels.shape):
        for axis in range(3):
            other = tuple(i + (k == axis) for k, i in enumerate(index))
            if other[axis] < labels.shape[axis]:
                a, b = sorted((int(labels[index]), int(labels[other])))
                if a != b and a > 0:
                    face = {0: 2.0 * 3.0, 1: 4.0 * 3.0, 2: 4.0 * 2.0}[axis]
                    naive[a, b] = naive.get((a, b), 0) + face
    assert contact_areas(labels, (4.0, 2.0, 3.0)) == pytest.approx(naive)


def test_wording_depends_on_case_id_only():
    texts = {MeasuredReasoning()(case(case_id=f"c{i}"))["report"]["findings"] for i in range(8)}
    assert len(texts) > 3
    assert MeasuredReasoning()(case())["cot"] == MeasuredReasoning()(case())["cot"]


def test_impressions_differ_between_cts():
    impressions = [
        MeasuredReasoning()(case(case_id="same", right=r, left=lf, seed=s))["report"]["impression"]
        for r, lf, s in ((18, 9, 0), (16, 9, 0), (9, 18, 0), (18, 12, 1))
    ]
    assert len(set(impressions)) == 4


def test_lesion_is_measured_and_localized():
    data = case()
    data["lesion_map"] = np.zeros_like(data["region_map"])
    data["lesion_map"][12:14, 8:12, 40:44] = 3
    data["lesion_masks"] = [dict(id=3, name="cyst")]
    results = MeasuredReasoning()(data)
    step = next(s for s in results["cot"] if s["lesion"] == 3)
    assert "in the liver" in step["text"]
    assert step["entities"] == ["cyst"]
    assert "0.6 ml" in step["text"]
    assert "cyst of 0.6 ml in the liver" in results["report"]["impression"]


def test_ct_without_masks():
    data = {**case(), "region_map": None}
    results = MeasuredReasoning()(data)
    (step,) = results["cot"]
    assert "100 mm" in step["text"]
    assert step["regions"] == []
    assert results["report"]["impression"]


@pytest.mark.parametrize(
    "text",
    [
        dict(report=dict(impression="Mine.")),
        dict(report=dict(findings="Mine.")),
        dict(cot=[dict(text="Mine.", regions=[], entities=[], lesion=None)]),
    ],
)
def test_case_with_text_is_unchanged(text):
    data = {**case(), **text}
    assert MeasuredReasoning()(data) is data


def test_placeholder_text_is_ignored():
    results = MeasuredReasoning()({**case(), "report": dict(findings="Not given.", impression=" ")})
    assert len(results["cot"]) > 3 and results["report"]["impression"].strip()


def test_max_steps():
    steps = MeasuredReasoning(max_steps=3)(case())["cot"]
    assert [s["step"] for s in steps] == [1, 2, 3]
    with pytest.raises(ValueError, match="max_steps.*0"):
        MeasuredReasoning(max_steps=0)


def test_empty_map_has_no_measurements():
    assert measure_labels(np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3, 3)), (1, 1, 1)) == {}
