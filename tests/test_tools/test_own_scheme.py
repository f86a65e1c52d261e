"""A region scheme given by path works in transforms, store, verification, inference and tools."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from ctvlm.anatomy import RegionScheme, UnknownLabelError, mention_lexicon
from ctvlm.anatomy.scheme import DATA_DIR, DEFAULT_SCHEME
from ctvlm.apis.case_reader import CaseReader
from ctvlm.datasets import ManifestCT, read_manifest, write_manifest
from ctvlm.datasets.preprocess import Recipe, fingerprint
from ctvlm.datasets.verify import verify_case
from ctvlm.engine import load_config
from ctvlm.volume import CTVolume, write_nifti

SHAPE = (12, 24, 24)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
REGIONS = [
    {"id": 1, "name": "lung_right", "synonyms": ["right lung"], "partner": 2},
    {"id": 2, "name": "lung_left", "synonyms": ["left lung"], "partner": 1},
    {"id": 3, "name": "liver", "synonyms": ["liver"]},
]


@pytest.fixture(params=["new name", "default name"])
def scheme_file(request, tmp_path):
    """A scheme of three regions, with a new name and with the name of the default scheme."""
    name = "mine" if request.param == "new name" else DEFAULT_SCHEME
    path = tmp_path / "my scheme.json"
    path.write_text(json.dumps({"name": name, "version": "1", "regions": REGIONS}))
    return path


@pytest.fixture
def manifest(tmp_path):
    """Two cases: a label map with the ids of the scheme and text; a mask per class and no text."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:10, 6:18, 13:20], labels[2:10, 6:18, 4:11], labels[:2, 8:16, 8:16] = 1, 2, 3
    ct = np.where(labels == 0, 40, np.where(labels == 3, 60, -800)).astype(np.int16)
    ct[:, :3] = -1000
    write_nifti(CTVolume(ct, AFFINE), tmp_path / "ct.nii.gz")
    write_nifti(CTVolume(labels, AFFINE), tmp_path / "labels.nii.gz")
    write_nifti(CTVolume((labels == 1).astype(np.uint8), AFFINE), tmp_path / "right.nii.gz")
    case = dict(split="train", volume={"path": "ct.nii.gz"})
    step = dict(step=1, text="The left lung is clear.", regions=["lung_left"])
    cases = [
        dict(
            case, case_id="a", patient_id="a", region_map={"path": "labels.nii.gz"}, cot=[step],
            report={"impression": "Clear left lung.", "findings": "The left lung is clear."},
        ),
        dict(case, case_id="b", patient_id="b", region_map={"files": {"lung_right": "right.nii.gz"}}),
    ]  # fmt: skip
    write_manifest(cases, tmp_path / "manifest.jsonl")
    return tmp_path / "manifest.jsonl"


def samples(manifest, scheme, *middle, loader="LoadCT"):
    pipeline = [dict(type=loader), *middle, dict(type="PackCTInputs")]
    return [item["data_samples"] for item in ManifestCT(str(manifest), scheme=str(scheme), pipeline=pipeline)]


def test_transforms(manifest, scheme_file):
    first, second = samples(
        manifest,
        scheme_file,
        dict(type="MeasuredReasoning"),
        dict(type="RandomFlipCT", p=1.0),
        dict(type="RandomCropCT", shape=(8, 16, 16), drop_unseen=True),
        dict(type="ResampleCT", shape=(8, 16, 16)),
    )
    assert first.region_names == second.region_names == ("lung_right", "lung_left", "liver")
    assert [step.regions for step in first.steps] == [(1,)]  # flipped
    assert {r for step in second.steps for r in step.regions} <= {1, 2, 3}


def test_store(tool, manifest, scheme_file, tmp_path):
    out = tmp_path / "store"
    options = ("--no-crop", "--spacing", 4, 4, 4, "--scheme", scheme_file)
    assert tool("preprocess.py", manifest, out, *options).code == 0
    stored = out / "manifest.jsonl"
    item = ManifestCT(str(stored), scheme=str(scheme_file), pipeline=[dict(type="LoadStore")])[0]
    assert set(np.unique(item["region_map"])) == {0, 1, 2, 3}
    # The default scheme has other regions and must be rejected, even if it has the same name.
    for loader in ("LoadStore", "LoadCT"):
        with pytest.raises((UnknownLabelError, ValueError), match="thorax_abdomen_20|source"):
            ManifestCT(str(stored), pipeline=[dict(type=loader)])[0]


def test_verify(manifest, scheme_file):
    for case in read_manifest(manifest):
        assert not [p for p in verify_case(case, str(scheme_file)) if p.level == "error"]
    case = read_manifest(manifest)[0]
    case["cot"][0]["text"], case["region_map"] = "The left lung is clear.", {"files": {"lung_right": "x"}}
    case["region_map"]["files"]["lung_right"] = str(manifest.with_name("right.nii.gz"))
    assert "text does not match region map" in {p.kind for p in verify_case(case, str(scheme_file))}


def test_lexicon_uses_synonyms_of_scheme(scheme_file):
    lexicon = mention_lexicon(str(scheme_file))
    assert lexicon.regions_in("The left lung is clear.") == (2,)
    assert lexicon.regions_in("Seen in the lung window.") == ()
    assert lexicon.regions_in("Hepatic steatosis; right lung normal.") == (1, 3)


def test_case_reader(manifest, scheme_file, repo_root):
    cfg = load_config(repo_root / "configs/vit3d_cot_contrastive_manifest.py")
    cfg.test_dataloader = cfg.val_dataloader
    cfg.test_dataloader.dataset.scheme = str(scheme_file)
    read = CaseReader(cfg).read_case(read_manifest(manifest)[0], with_text=True)
    assert read.packed["data_samples"].region_names == ("lung_right", "lung_left", "liver")


def test_tools(tool, manifest, scheme_file, tmp_path):
    for call in (
        ["visualization/browse_dataset.py", manifest, "--out", tmp_path / "pictures"],
        ["misc/verify_dataset.py", manifest, "--errors-only"],
    ):
        done = tool(*call, "--scheme", scheme_file)
        assert done.code == 0, done.out + done.err
    assert list((tmp_path / "pictures").glob("*.png"))


def test_scheme_path_is_absolute(manifest, scheme_file, monkeypatch, tmp_path):
    monkeypatch.chdir(scheme_file.parent)
    data = ManifestCT(str(manifest), scheme=scheme_file.name, pipeline=[dict(type="LoadCT")])
    monkeypatch.chdir("/")
    assert RegionScheme.load(data[0]["scheme"]).names == ["lung_right", "lung_left", "liver"]


def test_edited_file_is_different_scheme(scheme_file):
    before = RegionScheme.load(scheme_file)
    case = {"case_id": "a"}
    mark = fingerprint(case, Recipe(scheme=str(scheme_file)))
    scheme_file.write_text(scheme_file.read_text().replace("liver", "spleen"))
    after = RegionScheme.load(scheme_file)
    assert (before[3].name, after[3].name) == ("liver", "spleen")
    assert before.source_id != after.source_id
    assert fingerprint(case, Recipe(scheme=str(scheme_file))) != mark
    with pytest.raises(UnknownLabelError, match=after.source_id):
        after.fold(np.array([1]), before.source_id)


def test_copy_is_same_scheme(tmp_path):
    copy = tmp_path / "copy.json"
    shutil.copy(DATA_DIR / f"{DEFAULT_SCHEME}.json", copy)
    assert RegionScheme.load(copy).source_id == RegionScheme.load().source_id
    assert RegionScheme.load(copy).reference == str(copy)
