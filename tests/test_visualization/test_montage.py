"""The picture of a case shows the right slices the right way round."""

from __future__ import annotations

import numpy as np
import pytest

from ctvlm.visualization.montage import AXIS, interesting_slices, montage, plane_of, region_colours


def case(**changes) -> dict:
    hu = np.full((10, 16, 20), -1000, np.int16)
    hu[2:9, 3:13, 3:17] = 40
    regions = np.zeros(hu.shape, np.uint8)
    regions[3:7, 5:10, 10:16] = 12
    results = dict(
        case_id="p1", split="val", volume=hu, region_map=regions, lesion_map=None, spacing=(5.0, 2.0, 2.0),
        affine=np.diag([2.0, 2.0, 5.0, 1.0]), report=dict(impression="A cyst costs $5 and $6."),
        cot=[dict(text="A cyst in the liver.", regions=["liver"], lesion=1)], labels={"Cyst": 1},
    )  # fmt: skip
    return {**results, **changes}


def texts(figure) -> str:
    drawn = [t for axes in figure.axes for t in (*axes.texts, axes.title)] + figure.texts
    return "\n".join(t.get_text() for t in drawn)


def test_right_and_front_lie_where_radiologists_expect_them():
    volume = np.zeros((4, 5, 6))
    volume[3, 4, 5] = 1  # superior, anterior, right
    for plane, (axis, letters) in AXIS.items():
        picture = plane_of(volume, plane, volume.shape[axis] - 1)
        assert picture[0, 0] == 1 and picture.sum() == 1, plane
        assert letters[0] in "RA" and letters[3] in "AS"


def test_slices_go_through_the_largest_lesion():
    lesion = np.zeros((10, 16, 20), np.uint8)
    lesion[1, 1, 1] = 1
    lesion[7, 4:8, 5:9] = 2
    lesion[7, 5:7, 6:8] = 0  # a ring
    at = interesting_slices(case(lesion_map=lesion))
    assert lesion[at] == 2
    assert case()["region_map"][interesting_slices(case())] == 12
    assert interesting_slices(case(region_map=None)) == (5, 8, 10)


def test_the_page_says_what_is_known():
    lesion = np.zeros((10, 16, 20), np.uint8)
    lesion[4:6, 6:8, 11:13] = 1
    page = texts(montage(case(lesion_map=lesion)))
    words = ("p1", "5.00 x 2.00 x 2.00 mm", "axial, slice", "lung", "-600 / 1500", "A cyst in the liver.", "lesion 1")
    for word in (*words, "liver", "Labels: Cyst", r"\$5", "absent: right upper lobe"):
        assert word in page, word


@pytest.mark.parametrize("change", [dict(region_map=None), dict(cot=[], report={}, labels={}), dict(split=None)])
def test_what_is_missing_is_said_and_nothing_breaks(change, tmp_path):
    figure = montage(case(**change), windows=("soft_tissue",))
    figure.savefig(tmp_path / "a.png", dpi=40)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_colours_differ():
    assert len(set(region_colours(20))) == 20
