from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ctvlm.anatomy import RegionScheme, UnknownLabelError
from ctvlm.apis.case_reader import CaseReader
from ctvlm.datasets import ManifestError, read_manifest
from ctvlm.engine import CTVLMRunner, load_config
from ctvlm.registry import DATASETS
from ctvlm.volume import CTVolume, write_nifti
from projects.chest_ct_folders import chest_ct, folders_to_manifest

CONFIG = Path(__file__).parents[1] / "configs" / "vit3d_chest_ct.py"
NAMES = RegionScheme.load(chest_ct.SCHEME).names
SHAPE, AFFINE = (12, 32, 32), np.diag([8.0, 8.0, 8.0, 1.0])
HU = {1: -800, 2: -800, 3: -950, 4: -900, 6: 40, 7: 180, 9: 180, 13: 400, 16: 2000}
REPORT = {
    "phase": "venous",
    "findings": [
        {"organ": "lungs", "text": "Nodule in the right lung. The left lung is clear."},
        {"organ": "heart", "text": "The heart is enlarged. No effusion."},
    ],
    "impression": "Nodule in the right lung.",
}


def write_patient(root: Path, name: str, extra_label: int | None = None, **report: object) -> None:
    """One synthetic patient: soft tissue with a few boxes as organs; x grows to the right of the patient."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:10, 8:22, 19:27], labels[2:10, 8:22, 5:13] = 1, 2
    labels[6:10, 16:18, 15:17], labels[6:8, 15:18, 17:19] = 3, 4
    labels[2:6, 14:20, 13:18], labels[6:10, 18:20, 14:16], labels[6:9, 18:20, 16:18] = 6, 7, 9
    labels[:, 6:9, 14:18], labels[3, 12, 14:18] = 13, 16
    ct = np.full(SHAPE, 40, np.int16)
    for label, hu in HU.items():
        ct[labels == label] = hu
    ct[:, [0, 1, -2, -1]] = ct[:, :, [0, 1, -2, -1]] = -1000
    if extra_label is not None:
        labels[0, 12, 12] = extra_label
    write_nifti(CTVolume(ct, AFFINE), root / name / "ct.nii.gz")
    write_nifti(CTVolume(labels, AFFINE), root / name / "labels.nii.gz")
    (root / name / "report.json").write_text(json.dumps({**REPORT, **report}))


def convert(root: Path, *options: str) -> Path:
    out = root / "manifest.jsonl"
    assert folders_to_manifest.main([str(root), str(out), *options]) == 0
    return out


@pytest.fixture
def manifest(tmp_path):
    for name in ("P1", "P2", "P3"):
        write_patient(tmp_path, name)
    return convert(tmp_path)


def build(manifest: Path, *middle: dict, **options: object):
    pipeline = [dict(type="LoadCT"), *middle, dict(type="PackCTInputs")]
    return DATASETS.build(dict(type="ChestCT", ann_file=str(manifest), pipeline=pipeline, **options))


def test_converter(manifest):
    cases = read_manifest(manifest)
    assert {case["case_id"] for case in cases} == {"P1", "P2", "P3"}
    assert {case["split"] for case in cases} == {"train", "val"}
    steps = [(step["step"], step["text"], step["regions"]) for step in cases[0]["cot"]]
    assert steps == [
        (1, "Nodule in the right lung.", ["lung_right"]),
        (2, "The left lung is clear.", ["lung_left"]),
        (3, "The heart is enlarged.", ["heart"]),
        (4, "No effusion.", ["heart"]),
    ]


def test_regions_are_those_of_the_scheme(manifest):
    item = build(manifest)[0]
    assert item["data_samples"].region_names == tuple(NAMES)
    region_map = item["inputs"]["region_map"]
    present = {NAMES[i - 1] for i in region_map.unique().tolist() if i}
    # The catheter is outside the scheme; three labels fold into airways and aorta.
    assert present == {
        "lung_right", "lung_left", "airways", "heart", "aorta", "pulmonary_arteries", "thoracic_skeleton",
    }  # fmt: skip
    assert (region_map == 3).sum() == 4 * 2 * 2 + 2 * 3 * 2


def test_flip_swaps_sides(manifest):
    before, after = build(manifest)[0], build(manifest, dict(type="RandomFlipCT", p=1.0))[0]
    flipped = before["inputs"]["region_map"].flip(-1)
    swap = np.array([0, 2, 1, 3, 4, 5, 6, 7, 9, 8, 10])
    assert (after["inputs"]["region_map"].numpy() == swap[flipped.numpy()]).all()
    assert [step.regions for step in after["data_samples"].steps] == [(2,), (1,), (4,), (4,)]
    assert after["data_samples"].impression == "Nodule in the left lung."


def test_unknown_label_id_is_rejected(tmp_path):
    for name, label in (("P1", None), ("P2", None), ("P3", 17)):
        write_patient(tmp_path, name, extra_label=label)
    assert [case["case_id"] for case in read_manifest(convert(tmp_path))] == ["P1", "P2"]
    dropped = (tmp_path / "manifest.jsonl.dropped.tsv").read_text().split("\t")
    assert dropped[0] == "P3"
    assert str(tmp_path / "P3" / "labels.nii.gz") in dropped[1] and "[17]" in dropped[1]
    # The converter need not open the files; then the data set rejects the case.
    data = build(convert(tmp_path, "--check", "files"))
    bad = next(i for i in range(len(data)) if data.get_data_info(i)["case_id"] == "P3")
    with pytest.raises(UnknownLabelError, match=r"P3/labels\.nii\.gz.*\[17\]"):
        data[bad]


def test_unknown_organ_is_rejected(tmp_path):
    write_patient(tmp_path, "P1")
    write_patient(tmp_path, "P2", findings=[{"organ": "toe", "text": "Normal."}])
    assert [case["case_id"] for case in read_manifest(convert(tmp_path))] == ["P1"]
    dropped = (tmp_path / "manifest.jsonl.dropped.tsv").read_text()
    assert "P2/report.json" in dropped and "'toe'" in dropped


def test_phases(tmp_path):
    write_patient(tmp_path, "P1")
    write_patient(tmp_path, "P2", phase="native")
    manifest = convert(tmp_path)
    assert [case["case_id"] for case in build(manifest, phases=["native"]).load_data_list()] == ["P2"]
    with pytest.raises(ManifestError, match="arterial"):
        build(manifest, phases=["arterial"])


def test_config_trains_and_validates(manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the config finds the scheme from any folder
    options = {
        "work_dir": str(tmp_path / "run"),
        "ann_file": str(manifest),
        "shape": (12, 32, 32),
        "train_dataloader.batch_size": 2,
        "train_cfg.max_epochs": 1,
        "train_cfg.val_interval": 1,
        "model.backbone.depth": 2,
    }
    cfg = load_config(CONFIG, options)
    runner = CTVLMRunner.from_cfg(cfg)
    model = runner.train()
    assert runner.iter == 1
    assert runner.train_dataloader.dataset.metainfo["regions"] == NAMES
    assert runner.val_dataloader.dataset.metainfo["regions"] == NAMES
    assert runner.message_hub.get_scalar("val/region_text/num_steps").current() == 4
    assert model.backbone.num_regions == len(NAMES)
    assert CaseReader(cfg).scheme.names == NAMES
