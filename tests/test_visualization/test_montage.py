"""Slices, orientation, windows and texts of the picture of a case."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from ctvlm.datasets.transforms import LoadCT
from ctvlm.visualization.content import content_windows, fitting_window
from ctvlm.visualization.montage import interesting_slices, montage
from ctvlm.visualization.planes import AXIS, plane_of, region_colours
from ctvlm.volume import read_ct


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
    drawn = [t for axes in figure.axes for t in (*axes.texts, axes.title, axes.yaxis.label)] + figure.texts
    return "\n".join(t.get_text() for t in drawn)


def test_radiological_orientation():
    volume = np.zeros((4, 5, 6))
    volume[3, 4, 5] = 1  # superior, anterior, right
    for plane, (axis, letters) in AXIS.items():
        picture = plane_of(volume, plane, volume.shape[axis] - 1)
        assert picture[0, 0] == 1 and picture.sum() == 1, plane
        assert letters[0] in "RA" and letters[3] in "AS"


def test_interesting_slices():
    lesion = np.zeros((10, 16, 20), np.uint8)
    lesion[1, 1, 1] = 1
    lesion[7, 4:8, 5:9] = 2
    lesion[7, 5:7, 6:8] = 0  # a ring
    at = interesting_slices(case(lesion_map=lesion))
    assert lesion[at] == 2
    assert case()["region_map"][interesting_slices(case())] == 12
    assert interesting_slices(case(region_map=None)) == (5, 8, 10)


def test_page_contains_the_facts_of_the_case():
    lesion = np.zeros((10, 16, 20), np.uint8)
    lesion[4:6, 6:8, 11:13] = 1
    page = texts(montage(case(lesion_map=lesion)))
    words = (
        "p1",
        "5.00 x 2.00 x 2.00 mm",
        "axial 5 of 10",
        "soft tissue",
        "40 / 400",
        "A cyst in the liver.",
        "lesion 1",
    )
    for word in (*words, "liver", "Labels: Cyst", r"\$5", "not marked: right upper lobe"):
        assert word in page, word


@pytest.mark.parametrize("change", [dict(region_map=None), dict(cot=[], report={}, labels={}), dict(split=None)])
def test_cases_with_missing_parts_can_be_drawn(change, tmp_path):
    figure = montage(case(**change), windows=("soft_tissue",))
    figure.savefig(tmp_path / "a.png", dpi=40)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_region_colours_differ():
    assert len(set(region_colours(20))) == 20


def box(depth: int, **changes) -> dict:
    """A volume of ``depth`` slices of 3 mm with a body and a liver."""
    hu = np.full((depth, 60, 80), -1000, np.int16)
    hu[:, 6:54, 8:72] = 40
    regions = np.zeros(hu.shape, np.uint8)
    regions[:, 20:40, 20:50] = 12
    base = dict(case_id="p", volume=hu, region_map=regions, spacing=(3.0, 3.0, 3.0), affine=np.diag([3, 3, 3, 1.0]))
    return {**base, **changes}


@pytest.mark.parametrize("depth", [2, 3, 5, 8, 15, 60])
def test_letters_titles_and_names_of_a_slab_do_not_overlap(depth):
    figure = montage(box(depth))
    figure.canvas.draw()
    for axes in figure.axes[:6]:
        letters = [t for t in axes.texts if t.get_text() in "RLAPSI"]
        assert len(letters) == 4
        drawn = [t.get_window_extent() for t in (*letters, axes.title) if t.get_text()]
        for i, one in enumerate(drawn):
            assert not any(one.overlaps(other) for other in drawn[i + 1 :]), (depth, axes.get_title())


def test_slices_are_counted_from_one():
    case = box(60)
    page = texts(montage({**case, "lesion_map": (np.indices(case["volume"].shape).sum(axis=0) == 0).astype(np.uint8)}))
    assert all(f"{plane} 1 of {count}" in page for plane, count in (("axial", 60), ("coronal", 60), ("sagittal", 80)))


def test_coarse_masks_are_drawn_dashed_and_named():
    lung = np.zeros((60, 60, 80), bool)
    lung[10:50, 10:50, 10:40] = True
    plain, drawn = (montage(box(60, region_map=None, coarse_masks=masks)) for masks in ({}, {"lung": lung}))
    assert [len(f.axes[0].collections) for f in (plain, drawn)] == [0, 1]
    assert "lung" in texts(drawn) and "left lower lobe" in texts(drawn)


def test_sheared_input_has_a_remark():
    assert "sheared by 12.5°" in texts(montage(box(30, shear_degrees=12.5)))
    assert "sheared" not in texts(montage(box(30, shear_degrees=0.0)))


def test_shear_of_a_file_is_printed(tmp_path):
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 2] = 0, 3 * np.sin(np.deg2rad(20)), 3 * np.cos(np.deg2rad(20))
    nib.save(nib.Nifti1Image(box(30)["volume"].transpose(2, 1, 0), affine), tmp_path / "tilt.nii")
    volume = dict(path=str(tmp_path / "tilt.nii"), check_range=False)
    assert "sheared by 20.0°" in texts(montage(LoadCT()(dict(case_id="a", volume=volume))))


def head(depth=20) -> np.ndarray:
    """Brain in a skull on a foam rest, with an air-filled sinus."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (depth, 110, 100)], indexing="ij")
    radius = np.sqrt(y**2 + x**2)
    hu = np.where(radius < 0.75, 35, np.where(radius < 0.82, 900, np.where(radius < 0.87, -60, -1000)))
    hu[(radius < 0.3) & (z < -0.5) & (y > 0.1)] = -950
    hu[(y < -0.88) & (np.abs(x) < 0.8)] = -900
    return hu + np.random.default_rng(0).normal(0, 5, hu.shape)


@pytest.mark.parametrize("part", [slice(None), slice(8, 20), slice(10, 13)], ids=["head", "crop", "slab"])
def test_head_has_a_brain_window_and_no_lung_window(part):
    assert content_windows(head()[part], (4.0, 1.8, 1.8)) == ("brain", "bone")


@pytest.mark.parametrize(
    ("file", "lung"),
    [
        ("xcist_chest_siemens/xcist_chest_siemens.nii.gz", True),
        ("elastix_lung/ct.nii.gz", True),
        ("ts_aorta_lps/ct_cropped.nii.gz", True),
        ("ts_thorax_abdomen_spine/example_ct.nii.gz", False),
        ("ibsi_sts_002/CT_image.nii.gz", False),
        ("ct_avm_uint8_slope/CT_AVM.nii.gz", False),
    ],
)
def test_windows_of_real_cts(shared_data, file, lung):
    ct = read_ct(shared_data / "ct" / file)
    shown = content_windows(ct.array, ct.spacing)
    assert shown == (("lung",) if lung else ()) + ("soft_tissue", "bone")
    if "elastix" in file:
        assert "lung" in content_windows(ct.array[40:80, 40:90, 25:50], ct.spacing), "a crop inside the lung"


def test_fitting_window():
    assert fitting_window("lung", ("brain", "bone")) == "brain"
    assert fitting_window("bone", ("brain", "bone")) == "bone"
    assert fitting_window("soft_tissue", ("lung", "soft_tissue", "bone")) == "soft_tissue"
