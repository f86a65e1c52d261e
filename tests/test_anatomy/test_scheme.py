"""RegionScheme: ids, names, partners and the mapping of other label maps."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ctvlm.anatomy import RegionScheme, UnknownLabelError, check_regions

SCHEME = RegionScheme.load()


def test_default_scheme_has_the_twenty_regions_in_order():
    assert SCHEME.num_regions == len(SCHEME.names) == len(set(SCHEME.names)) == 20
    assert [SCHEME.id_of(n) for n in ("lung_upper_lobe_right", "heart", "liver", "spine", "rib_cage")] == [
        1,
        7,
        12,
        19,
        20,
    ]
    assert SCHEME.name_of(18) == "kidney_left"


def test_partners_are_on_the_other_side():
    partners = SCHEME.partner_ids()
    assert partners == {1: 4, 2: 4, 3: 5, 4: 1, 5: 3, 17: 18, 18: 17}
    for a, b in partners.items():
        assert {"left", "right"} <= set(f"{SCHEME.name_of(a)}_{SCHEME.name_of(b)}".split("_"))


@pytest.mark.parametrize(
    ("source", "ids", "names"),
    [
        ("totalsegmentator_v1", [7, 13, 44, 50], ["aorta", "lung_upper_lobe_left", "heart", None]),
        ("totalsegmentator_v2", [7, 13, 44, 52, 61], ["pancreas", "lung_middle_lobe_right", "spine", "aorta", "heart"]),
        ("totalsegmentator_v3", [26, 63, 92], ["spine", None, "rib_cage"]),
        ("fvlm", [1, 2, 3, 4], [None, "heart", "esophagus", "aorta"]),
        ("thorax_abdomen_20", [0, 20], [None, "rib_cage"]),
    ],
)
def test_fold_by_declared_source(source, ids, names):
    folded = SCHEME.fold(np.array(ids), source)
    assert folded.dtype == np.uint8
    assert [SCHEME.name_of(i) if i else None for i in folded] == names


def test_id_tables_equal_those_of_totalsegmentator(shared_data):
    for version, name in (("v1", "total_v1"), ("v2", "total"), ("v3", "total_v3")):
        facts = json.loads((shared_data / "labels" / f"totalsegmentator_{name}.json").read_text())
        assert list(facts.values()) == list(SCHEME.id_tables[f"totalsegmentator_{version}"])


def test_organs_map_to_the_same_region_in_both_versions():
    one, two = (SCHEME.id_tables[f"totalsegmentator_v{v}"] for v in (1, 2))
    for name in set(one) & set(two):
        got = [SCHEME.fold(np.array([t.index(name) + 1]), f"totalsegmentator_v{v}")[0] for v, t in ((1, one), (2, two))]
        assert got[0] == got[1], name


def test_groups_and_paths_of_other_data_sets_are_known(shared_data):
    groups = json.loads((shared_data / "labels" / "fvlm_ctrate_groups.json").read_text())
    table = SCHEME.id_tables["totalsegmentator_v2"]
    for group, members in groups["groups"].items():
        covered = {i for m in members for i in SCHEME.ids_of_class(table[m - 1])}
        assert covered == set(SCHEME.ids_of_class(group))
    for region in json.loads((shared_data / "labels" / "radgenome_10_regions.json").read_text()):
        SCHEME.ids_of_class(region)
    assert len(SCHEME.ids_of_class("lung")) == 5
    assert SCHEME.ids_of_class("Trachea and bronchie") == (6,)


def test_unknown_ids_state_the_sources_that_have_them():
    with pytest.raises(UnknownLabelError, match=r"\[117\].*'totalsegmentator_v1'.*totalsegmentator_v2"):
        SCHEME.fold(np.array([1, 117]), "totalsegmentator_v1")
    with pytest.raises(UnknownLabelError, match=r"\[200\].*'totalsegmentator_v2'"):
        SCHEME.fold(np.array([200]), "totalsegmentator_v2")
    with pytest.raises(UnknownLabelError, match=r"\[21\].*0\.\.20"):
        SCHEME.fold(np.array([21]), "thorax_abdomen_20")
    with pytest.raises(UnknownLabelError, match=r"\[-1\]"):
        SCHEME.fold(np.array([-1]), "totalsegmentator_v2")
    with pytest.raises(UnknownLabelError, match="float64"):
        SCHEME.fold(np.array([0.5]), "totalsegmentator_v2")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SCHEME.fold(np.zeros(3, int), "totalseg"), "'totalseg'.* thorax_abdomen_20, totalsegmentator_v1"),
        (lambda: SCHEME.name_of(21), r"21.*1\.\.20"),
        (lambda: SCHEME.id_of("lver"), "'lver'"),
        (lambda: SCHEME.ids_of_class("spleeen"), "'spleeen'"),
        (lambda: RegionScheme.load("thorax_21"), r"thorax_21\.json.*thorax_abdomen_20"),
    ],
)
def test_errors_state_the_unknown_name(call, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        call()


def test_custom_scheme_loads_from_a_file_and_an_invalid_one_is_rejected(tmp_path):
    custom = {
        "name": "two",
        "version": "1",
        "regions": [{"id": 1, "name": "lung"}, {"id": 2, "name": "rest"}],
        "fold": {"lung": ["lung_upper_lobe_left"]},
    }
    path = tmp_path / "two.json"
    path.write_text(json.dumps(custom))
    assert RegionScheme.load(path).fold(np.array([10, 5]), "totalsegmentator_v2").tolist() == [1, 0]
    custom["fold"] = {"lungs": []}
    custom["regions"][1]["id"] = 3
    (tmp_path / "bad.json").write_text(json.dumps(custom))
    with pytest.raises(ValueError, match=r"bad\.json.*\[1, 3\].*1\.\.R"):
        RegionScheme.load(tmp_path / "bad.json")


def body() -> tuple[np.ndarray, np.ndarray]:
    """A right and a left kidney at 30 HU, lower lobes at -800 HU; x grows to the right."""
    regions, hu = np.zeros((10, 20, 40), np.uint8), np.zeros((10, 20, 40), np.int16)
    for region_id, value, x, z in ((18, 30, 2, 0), (17, 30, 28, 0), (5, -800, 2, 5), (3, -800, 28, 5)):
        box = (slice(z, z + 5), slice(5, 15), slice(x, x + 10))
        regions[box], hu[box] = region_id, value
    return regions, hu


def test_a_correct_map_is_plausible():
    check = check_regions(SCHEME, *body(), np.eye(4))
    assert check.messages == []
    assert check.checked == ("lung_lower_lobe_right", "lung_lower_lobe_left", "kidney_right", "kidney_left")


def test_wrong_version_and_mirroring_are_detected():
    regions, hu = body()
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0])
    assert len(check_regions(SCHEME, regions, hu, mirrored).messages) == 2
    swapped = np.where(regions == 3, 12, regions).astype(np.uint8)
    check = check_regions(SCHEME, swapped, hu, np.eye(4))
    (problem,) = check.messages
    assert "'liver'" in problem and "-800 HU" in problem and len(check.checked) == 4
    # One region with two problems.
    hu[regions == 17] = -800
    check = check_regions(SCHEME, regions, hu, mirrored)
    assert set(check.problems) == {"kidney_right", "lung_lower_lobe_right"} and len(check.messages) == 3


def test_small_regions_are_not_checked():
    """In a large scan, the same voxels decide about the size of a region and about its mean."""
    regions, hu = (np.kron(array, np.ones((10, 9, 8), array.dtype)) for array in body())
    assert regions.size > 4_000_000
    regions[:] = 0
    regions[:20, :9, :8] = 12  # 1440 voxels, of which 200 are sampled
    assert check_regions(SCHEME, regions, hu, np.eye(4)).checked == ("liver",)
    regions[19] = 0
    regions[18] = 0
    assert check_regions(SCHEME, regions, hu, np.eye(4)).checked == ()


def test_real_mask_read_as_the_wrong_version_is_reported(shared_data):
    """All ids exist in v1 too, so that only the image shows the error."""
    from ctvlm.volume import match_mask, read_ct, read_label_map

    folder = shared_data / "ct" / "ts_small_117"
    ct = read_ct(folder / "example_ct_sm.nii.gz")
    labels = match_mask(read_label_map(folder / "example_seg.nii.gz"), ct).array
    labels = np.where(labels > 104, 0, labels)
    right, wrong = (
        check_regions(SCHEME, SCHEME.fold(labels, f"totalsegmentator_{v}"), ct.array, ct.affine).messages
        for v in ("v2", "v1")
    )
    assert right == []
    assert wrong
