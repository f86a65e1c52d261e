"""vis_attention.py writes pictures, and maps in the space of the input."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from matplotlib.image import imread

from ctvlm.datasets import write_manifest
from ctvlm.engine import load_config
from ctvlm.phantom import PhantomCT
from ctvlm.registry import MODELS
from ctvlm.utils.training_data import PHANTOM_SOURCE, PHANTOMS_ONLY, data_record
from ctvlm.volume import CTVolume, write_nifti
from tests.test_volume.phantoms import rotated, save_as

CONFIG = """
_base_ = [{base!r}]
custom_imports = dict(imports=["tests.test_apis.brightness"])
model = dict(
    type="SeesBrightness",
    backbone=dict(
        embed_dims=24, depth=2, block=dict(num_heads=2),
        patch_embed=dict(_delete_=True, type="ThreeDPatchEmbedding", patch_size=(4, 8, 8)),
    ),
    space=dict(shared_dims=16, volume_pooling=dict(num_heads=2)),
    text_encoder=dict(vocab_size=400, embed_dims=16, depth=1, num_heads=2),
)
test_dataloader = dict(dataset=dict(num_cases=1, num_workers=0))
"""
TOOL = "visualization/vis_attention.py"


def itk_peak(path) -> np.ndarray:
    """Position of the maximum according to SimpleITK, RAS+ mm."""
    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayViewFromImage(image)
    at = np.unravel_index(values.argmax(), values.shape)[::-1]
    return np.array(image.TransformIndexToPhysicalPoint([int(i) for i in at])) * (-1, -1, 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory, repo_root):
    """Config and checkpoint of a model whose texts look at the brightest patch."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "bright.py").write_text(CONFIG.format(base=str(repo_root / "configs/vit3d_cot_contrastive.py")))
    built = MODELS.build(load_config(folder / "bright.py").model)
    built.fit_tokenizer(["The liver is normal."])
    torch.save(dict(state_dict=built.state_dict()), folder / "bright.pth")
    return folder / "bright.py", folder / "bright.pth"


@pytest.fixture(scope="module")
def drawn():
    """A phantom whose brightest part is a lesion, and its results dict."""
    case = PhantomCT(num_cases=1, split="vis", shape=(30, 80, 90), num_workers=0, cache=False).results(0)
    hu = case["volume"].copy()
    hu[20:25, 30:42, 52:62] = 3000
    return CTVolume(hu, case["affine"]), case


def tilted(ct: CTVolume, degrees: float) -> CTVolume:
    """The same voxels on the sheared grid of a tilted gantry."""
    shear = np.eye(4)
    shear[1, 2] = np.tan(np.deg2rad(degrees))
    return CTVolume(ct.array, shear @ ct.affine)


@pytest.mark.parametrize(
    ("orientation", "degrees", "tilt"), [("RAS", 0, 0), ("LPS", 0, 0), ("LPS", 15, 0), ("RAS", 0, 15), ("LPS", 10, -20)]
)
def test_map_peaks_at_the_lesion_in_the_space_of_the_input(tool, model, drawn, tmp_path, orientation, degrees, tilt):
    ct = rotated(tilted(drawn[0], tilt), degrees)
    lesion = (ct.affine @ (56.5, 35.5, 22, 1))[:3]
    save_as(ct, tmp_path / "ct.nii.gz", orientation)
    done = tool(TOOL, *model, tmp_path / "ct.nii.gz", "--text", "A lesion.", "--out", tmp_path / "out", "--dpi", 30)
    assert done.code == 0, done.err
    given = nib.load(tmp_path / "ct.nii.gz")
    for name in ("text_01", "rollout"):
        written = nib.load(tmp_path / "out" / f"{name}.nii.gz")
        if tilt:  # on the straightened grid, whose position every reader agrees on
            axes = written.affine[:3, :3] / np.linalg.norm(written.affine[:3, :3], axis=0)
            np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-4)
            np.testing.assert_allclose(written.get_qform(), written.affine, atol=1e-3)
        else:
            assert written.shape == given.shape
            np.testing.assert_allclose(written.affine, given.affine, atol=1e-4)
        assert written.get_fdata().max() > 1
    heat = nib.load(tmp_path / "out" / "text_01.nii.gz")
    peak = nib.affines.apply_affine(heat.affine, np.unravel_index(heat.get_fdata().argmax(), heat.shape))
    # With any crop, a patch is at most a sixth of the volume deep and a twelfth wide.
    spacing = np.linalg.norm(heat.affine[:3, :3], axis=0)
    patch = spacing * heat.shape / (12, 12, 6)
    by_itk = itk_peak(tmp_path / "out" / "text_01.nii.gz")
    np.testing.assert_allclose(by_itk, peak, atol=0.01)
    for found_peak in (peak, by_itk):
        off = np.linalg.inv(heat.affine[:3, :3] / spacing) @ (found_peak - lesion)
        assert (np.abs(off) < patch).all(), (found_peak, lesion)
    (found,) = [
        m for m in json.loads((tmp_path / "out" / "maps.json").read_text())["maps"] if m["file"] == "text_01.nii.gz"
    ]
    assert found["text"] == "1. A lesion." and np.linalg.norm(np.array(found["peak_mm_ras"]) - peak) < patch.max()
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["overview.png", "texts_01.png"]
    assert not (tmp_path / "out" / "regions.nii.gz").exists()


def test_manifest_case_with_steps_and_regions(tool, model, drawn, tmp_path):
    ct, case = drawn
    write_nifti(ct, tmp_path / "ct.nii.gz")
    write_nifti(ct.with_array(case["region_map"]), tmp_path / "map.nii.gz")
    cot = [dict(text=f"Step {i} on the liver.", regions=["liver"]) for i in range(5)]
    one = dict(case_id="p/1", patient_id="p", split="test", volume="ct.nii.gz", region_map="map.nii.gz", cot=cot)
    write_manifest([{**one, "case_id": "p/0", "cot": []}, one], tmp_path / "cases.jsonl")
    out = ("--out", tmp_path / "out", "--dpi", 30)
    done = tool(TOOL, *model, tmp_path / "cases.jsonl", "--case", "p/1", *out)
    assert done.code == 0, done.err
    assert len(list((tmp_path / "out").glob("*.png"))) == 3 and len(list((tmp_path / "out").glob("*.nii.gz"))) == 7
    regions = nib.load(tmp_path / "out" / "regions.nii.gz")
    labels, true = np.asarray(regions.dataobj), np.asarray(nib.load(tmp_path / "map.nii.gz").dataobj)
    assert labels.dtype == np.uint8 and labels.shape == true.shape
    assert (true[labels == 12] == 12).mean() > 0.5, "most voxels labelled liver are liver"
    maps = json.loads((tmp_path / "out" / "maps.json").read_text())["maps"]
    assert maps[1]["regions"]["12"] == "liver" and maps[2]["text"] == "1. Step 0 on the liver."
    # Without --case: the first case. It has a region map and no steps, so its regions are the texts.
    done = tool(TOOL, *model, tmp_path / "cases.jsonl", "--out", tmp_path / "names", "--dpi", 30)
    texts = [m["text"] for m in json.loads((tmp_path / "names" / "maps.json").read_text())["maps"]]
    assert len(texts) == 2 + len(np.unique(true)) - 1 and any("Liver." in text for text in texts)


def test_real_ct_with_weights_trained_on_phantoms_gets_a_remark(tool, model, drawn, tmp_path):
    write_nifti(drawn[0], tmp_path / "real.nii.gz")
    write_nifti(drawn[0], tmp_path / "phantom.nii.gz", description=PHANTOM_SOURCE)
    content = torch.load(model[1], weights_only=True)
    weights = tmp_path / "weights.pth"
    torch.save({**content, "meta": {"training_data": [data_record("PhantomCT", 1, synthetic=True)]}}, weights)
    heights = {}
    for checkpoint, name, remarks in ((weights, "real", 1), (weights, "phantom", 0), (model[1], "real", 0)):
        args = (tmp_path / f"{name}.nii.gz", "--text", "A lesion.", "--out", tmp_path / "out", "--dpi", 50)
        done = tool(TOOL, model[0], checkpoint, *args)
        assert done.code == 0, done.err
        assert (done.out + done.err).count(PHANTOMS_ONLY) == remarks, (name, done.err)
        heights[remarks] = imread(tmp_path / "out" / "texts_01.png").shape[0]
    assert heights[1] - heights[0] == pytest.approx(0.32 * 50, abs=1), "one more line on the page"


def test_invalid_arguments(tool, model, drawn, tmp_path):
    write_nifti(drawn[0], tmp_path / "ct.nii.gz")
    case = dict(case_id="a", patient_id="a", split="test", volume="ct.nii.gz")
    write_manifest([case], tmp_path / "cases.jsonl")
    for args, message in (
        ([tmp_path / "none.nii.gz"], "none.nii.gz"),
        ([tmp_path / "ct.nii.gz", "--mask", tmp_path / "ct.nii.gz"], "mask_source"),
        ([tmp_path / "ct.nii.gz", "--case", "a"], "--case a"),
        ([tmp_path / "cases.jsonl", "--case", "b"], "'b'"),
        ([tmp_path / "cases.jsonl", "--mask", "x"], "--mask x"),
    ):
        done = tool(TOOL, *model, *args, "--out", tmp_path / "out")
        assert done.code == 2 and message in done.err, (args, done.err)
    assert not (tmp_path / "out").exists()
