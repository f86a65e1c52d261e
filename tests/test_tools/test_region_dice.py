"""region_dice with a perfect model."""

from __future__ import annotations

import importlib.util
import json
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from ctvlm.anatomy import RegionScheme
from ctvlm.datasets.manifest import write_manifest

LIVER = RegionScheme.load().id_of("liver")
LUNGS = RegionScheme.load().ids_of_class("lung")


@pytest.fixture
def region_dice(repo_root):
    spec = importlib.util.spec_from_file_location(
        "region_dice", repo_root / "tools" / "analysis_tools" / "region_dice.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def manifest(tmp_path):
    """Two CTs in LPS orientation: one with a label map of the liver, one with a single mask of both lungs."""
    hu = np.full((60, 50, 40), -1000, np.int16)
    hu[10:50, 10:45, :] = 40
    organ = np.zeros(hu.shape, np.uint8)
    organ[14:28, 18:40, 4:22] = 1
    affine = np.diag([-4.0, -4.0, 5.0, 1.0])
    affine[:3, 3] = 90, 70, -300

    def save(name, array):
        nib.save(nib.Nifti1Image(array, affine), tmp_path / name)
        return str(tmp_path / name)

    scheme = RegionScheme.load()
    liver = dict(path=save("liver_map.nii.gz", organ * LIVER), source=scheme.name)
    hu[organ > 0] = 200
    # Noise, because constant air would be treated as padding.
    hu += np.random.default_rng(0).integers(-8, 9, hu.shape, dtype=np.int16)
    ct = save("ct.nii.gz", hu)
    common = dict(split="test", lesion_masks=[])
    cases = [
        dict(case_id="liver", patient_id="a", volume=ct, region_map=liver, **common),
        dict(
            case_id="chest",
            patient_id="b",
            volume=ct,
            region_map=dict(files=dict(lung=save("lung.nii.gz", organ))),
            **common,
        ),
    ]
    write_manifest(cases, tmp_path / "cts.jsonl")
    return tmp_path / "cts.jsonl"


class Oracle:
    """Segments the organ by its HU and asserts that it gets no region map; predicts a single lobe for the lungs."""

    def test_step(self, data):
        assert data["inputs"]["region_map"] == [None]
        volume, sample = data["inputs"]["volume"][0][0], data["data_samples"][0]
        region = LIVER if sample.case_id == "liver" else LUNGS[3]
        sample.pred_region_map = ((volume > 120) * region).to(torch.uint8)
        return [sample]


def config_file(tmp_path, body=""):
    path = tmp_path / "config.py"
    path.write_text(
        "test_dataloader = dict(dataset=dict(type='ManifestCT', pipeline=[\n"
        "    dict(type='LoadCT'), dict(type='MeasuredReasoning'),\n"
        "    dict(type='ResampleCT', shape=(32, 96, 96), crop_to_body=True), dict(type='PackCTInputs')]))\n" + body
    )
    return path


def test_perfect_prediction_on_the_grid_of_the_ct_file(region_dice, manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ctvlm.apis.init_model", lambda *args, **kwargs: Oracle())
    out = tmp_path / "dice.json"
    assert region_dice.main([str(config_file(tmp_path)), "unused.pth", str(manifest), "--out", str(out)]) == 0
    dice = json.loads(out.read_text())["dice"]
    assert set(dice) == {"liver", "chest"}
    assert dice["liver"]["liver"] > 0.9
    assert dice["chest"]["lung"] > 0.9
    assert "Dice" in capsys.readouterr().out


def test_rejects_models_without_region_map(region_dice, manifest, tmp_path, monkeypatch):
    model = SimpleNamespace(test_step=lambda data: data["data_samples"])
    monkeypatch.setattr("ctvlm.apis.init_model", lambda *args, **kwargs: model)
    with pytest.raises(region_dice.ConfigError, match="VoxelSegmentationHead"):
        region_dice.main([str(config_file(tmp_path)), "unused.pth", str(manifest)])
