"""ManifestCT: from files to model inputs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ctvlm.anatomy import UnknownLabelError
from ctvlm.datasets import ManifestCT, ManifestError
from ctvlm.datasets.transforms import LoadCT, PackCTInputs, ResampleCT
from ctvlm.registry import DATASETS
from ctvlm.volume import CTReadError, MaskMismatchError, read_ct, read_label_map, write_nifti

PIPELINE = [dict(type="LoadCT"), dict(type="MeasuredReasoning"), dict(type="ResampleCT", shape=(6, 20, 24)),
            dict(type="PackCTInputs")]  # fmt: skip


def build(folder, **kwargs):
    args = dict(type="ManifestCT", ann_file=str(folder / "cases.jsonl"), split="train", pipeline=PIPELINE)
    return DATASETS.build({**args, **kwargs})


def edit(folder, number=0, **change):
    path = folder / "cases.jsonl"
    cases = [json.loads(line) for line in path.read_text().splitlines()]
    cases[number].update(change)
    path.write_text("\n".join(map(json.dumps, cases)))


def test_items_have_documented_shapes_types_and_metainfo(case_folder):
    dataset = build(case_folder)
    assert len(dataset) == 2
    item = dataset[1]
    volume, regions, sample = item["inputs"]["volume"], item["inputs"]["region_map"], item["data_samples"]
    assert (volume.shape, volume.dtype) == ((1, 6, 20, 24), torch.int16)
    assert (regions.shape, regions.dtype) == ((6, 20, 24), torch.uint8)
    assert set(regions.unique().tolist()) == {0, 12, 17, 18}
    assert sample.spacing == (8.0, 2.0, 2.0)
    assert (sample.case_id, sample.patient_id, sample.scheme) == ("p1", "p1", "thorax_abdomen_20")
    assert sample.impression == "Liver cyst."
    assert (sample.steps[0].regions, sample.steps[0].entities, sample.steps[0].lesion) == ((12,), ("cyst",), 1)
    assert sample.labels == {"Cyst": 1, "Stone": None}
    assert sample.lesion_map.shape == (6, 20, 24)
    assert dataset.metainfo["regions"][11] == "liver"


def test_texts_are_given_or_measured(case_folder):
    dataset = build(case_folder)
    texts = dataset.texts()
    assert "Liver cyst." in texts
    measured = dataset[0]["data_samples"]
    assert measured.impression in texts
    assert all(step.text in texts for step in measured.steps)
    without = build(case_folder, pipeline=[PIPELINE[0], *PIPELINE[2:]])
    assert without.texts() == ["Liver cyst.", "A cyst in the liver."]


def test_cache_reads_files_once(case_folder):
    plain, cached = build(case_folder)[0], build(case_folder, cache=True)
    first = cached[0]
    for kind in ("ct", "seg"):
        (case_folder / "p0" / f"{kind}.nii.gz").unlink()
    first["inputs"]["volume"].zero_()
    again = cached[0]
    assert torch.equal(again["inputs"]["volume"], plain["inputs"]["volume"])
    assert torch.equal(again["inputs"]["region_map"], plain["inputs"]["region_map"])


def test_case_without_region_map(case_folder):
    edit(case_folder, region_map=None, lesion_masks=[])
    item = build(case_folder)[0]
    assert item["inputs"]["region_map"] is None
    assert "lesion_map" not in item["data_samples"]


def test_per_class_files_equal_multi_label_map(case_folder):
    whole = build(case_folder)[0]["inputs"]["region_map"]
    labels = read_label_map(case_folder / "p0" / "seg.nii.gz")
    files = {}
    for name, number in (("liver", 5), ("kidney_right", 2), ("kidney_left", 3), ("urinary_bladder", 9)):
        files[name] = f"p0/{name}.nii.gz"
        write_nifti(labels.with_array((labels.array == number).astype(np.uint8)), case_folder / files[name])
    edit(case_folder, region_map=dict(files=files))
    assert torch.equal(build(case_folder)[0]["inputs"]["region_map"], whole)


def test_coarse_class_is_described_but_not_mapped(case_folder):
    edit(case_folder, region_map=dict(files=dict(lung="p0/seg.nii.gz")))
    item = build(case_folder)[0]
    assert item["inputs"]["region_map"] is None
    assert any(step.regions == (1, 2, 3, 4, 5) for step in item["data_samples"].steps)


def test_region_source_applies_to_undeclared_maps(case_folder):
    edit(case_folder, region_map="p0/seg.nii.gz")
    # Without a source, the ids are those of the scheme, where 5 is a lung lobe (here at 60 HU).
    with pytest.warns(UserWarning, match="case p0.*'lung_lower_lobe_left'"):
        build(case_folder)[0]
    declared = [dict(type="LoadCT", region_source="totalsegmentator_v2"), *PIPELINE[1:]]
    assert 12 in build(case_folder, pipeline=declared)[0]["inputs"]["region_map"].unique()


def rename(folder):
    (folder / "p0" / "ct.nii.gz").rename(folder / "p0" / "old.nii.gz")


def cut(folder):
    path = folder / "p0" / "seg.nii.gz"
    path.write_bytes(path.read_bytes()[:60])


def high_id(folder):
    edit(folder, region_map=dict(path="p0/seg.nii.gz", source="thorax_abdomen_20"))
    labels = read_label_map(folder / "p0" / "seg.nii.gz")
    write_nifti(labels.with_array(labels.array * 10), folder / "p0" / "seg.nii.gz")


def elsewhere(folder):
    labels = read_label_map(folder / "p0" / "seg.nii.gz")
    labels.affine[0, 3] += 1000
    write_nifti(labels, folder / "p0" / "seg.nii.gz")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (rename, FileNotFoundError, r"p0.ct\.nii\.gz"),
        (cut, CTReadError, r"p0.seg\.nii\.gz"),
        (high_id, UnknownLabelError, r"p0.seg\.nii\.gz: .*\[30, 50\].*0\.\.20"),
        (elsewhere, MaskMismatchError, r"p0.seg\.nii\.gz"),
        (lambda f: edit(f, cot=[dict(text="x", regions=["livr"])]), ValueError, "case p0.*'livr'"),
    ],
)
def test_invalid_files_raise_with_path(damage, error, message, case_folder):
    damage(case_folder)
    with pytest.raises(error, match=message):
        build(case_folder)[0]


def test_pack_rejects_region_ids_outside_scheme():
    results = dict(
        case_id="c", patient_id="p", volume=np.zeros((2, 2, 2), np.int16), affine=np.eye(4), spacing=(1, 1, 1)
    )
    with pytest.raises(ValueError, match=r"case c.*21.*0\.\.20"):
        PackCTInputs()({**results, "region_map": np.full((2, 2, 2), 21, np.uint8)})


def test_empty_split_raises(case_folder):
    with pytest.raises(ManifestError, match="'test'"):
        build(case_folder, split="test")
    assert len(build(case_folder, split=None)) == 3


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (dict(spacing=(8, 4, 4)), (6, 10, 12)),
        (dict(spacing=(8, 4, 4), shape=(8, 8, 16)), (8, 8, 16)),
        (dict(crop_to_body=True), None),
        (dict(crop_to_body=True, shape=(4, 4, 4)), (4, 4, 4)),
    ],
)
def test_resampled_maps_share_one_grid(options, shape, case_folder):
    dataset = ManifestCT(str(case_folder / "cases.jsonl"), split="train", pipeline=[LoadCT()])
    before = dataset[0]
    after = ResampleCT(**options)(before)
    assert after["volume"].shape == after["region_map"].shape == after["lesion_map"].shape
    assert shape is None or after["volume"].shape == shape
    world = [
        np.linalg.lstsq(np.eye(4), r["affine"] @ [*np.argwhere(r["region_map"] == 12).mean(0)[::-1], 1], rcond=None)[0]
        for r in (before, after)
    ]
    np.testing.assert_allclose(*world, atol=6.0)
    assert after["spacing"] == pytest.approx(np.linalg.norm(after["affine"][:3, :3], axis=0)[::-1])


def test_resample_without_options_raises():
    with pytest.raises(ValueError, match="crop_to_body"):
        ResampleCT()


def test_loaded_volume_equals_file(case_folder):
    dataset = ManifestCT(str(case_folder / "cases.jsonl"), split="train", pipeline=[LoadCT()])
    np.testing.assert_array_equal(dataset[0]["volume"], read_ct(case_folder / "p0" / "ct.nii.gz").array)


def test_data_records_contain_text_origin_and_synthetic(case_folder):
    def record(**kwargs):
        return [(r["cases"], r["text"], r["synthetic"]) for r in build(case_folder, **kwargs).data_records()]

    edit(case_folder, 1, source="CT-RATE v2")
    assert record() == [(1, "given report", False), (1, "measured", False)]
    records = build(case_folder, pipeline=[PIPELINE[0], *PIPELINE[2:]]).data_records()
    assert [(r["text"], r["sources"]) for r in records] == [("given report", ["CT-RATE v2"]), ("none", [])]
    assert {(r["dataset"], r["split"], r["scheme"]) for r in records} == {("ManifestCT", "train", "thorax_abdomen_20")}
    edit(case_folder, 1, source="PhantomCT")
    assert record() == [(1, "measured", False), (1, "phantom", True)]
    # The text of a store may be measured, as declared in extra.
    edit(case_folder, 1, source=None, extra={"text_origin": "measured"})
    assert record() == [(2, "measured", False)]
    assert record(indices=1) == [(1, "measured", False)]
