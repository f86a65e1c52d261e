"""CT, regions and attention of a page lie on the right place in mm, for nibabel and SimpleITK."""

from __future__ import annotations

import base64
import re

import nibabel as nib
import numpy as np
import pytest
import torch

from ctvlm.apis.page_builder import PageBuilder
from ctvlm.visualization.viewer import page_html
from ctvlm.volume.grids import sample_grid
from tests.test_apis.oriented_ct import CENTRE, LIVER, BrightIsLiver, dice

pytest.importorskip("ipyniivue", reason="the viewer needs ipyniivue: pip install 'ctvlm[viewer]'")


@pytest.fixture
def build(model, monkeypatch):
    """Regions and attention where the CT is bright."""
    made = PageBuilder(
        model, texts=["A bright liver."], pipeline=[dict(type="ResampleCT", shape=(32, 64, 64), crop_to_body=True)]
    )
    made._segment._objectives = [BrightIsLiver()]

    def brightest(context, case, texts):
        mean_N = torch.nn.functional.adaptive_avg_pool3d(context.inputs["volume"].float(), context.encoded.grid)
        return torch.nn.functional.one_hot(mean_N[case].flatten().argmax(), mean_N[case].numel()).float()[None]

    monkeypatch.setattr(made, "text_attention", brightest)
    return made


def at_voxels_of(image, source) -> np.ndarray:
    """Values of an image at the voxel centres of another image."""
    return sample_grid(
        np.asarray(image.dataobj), np.linalg.inv(image.affine) @ source.affine, source.shape, "nearest", 0
    )


def test_volumes_of_a_page_lie_on_the_voxels_of_the_input(build, ct_file, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    path, _ = ct_file
    source = nib.load(path)
    bright, page = np.asarray(source.dataobj) > 170, build(path)
    centre = source.affine @ [*CENTRE, 1]
    html = page_html(page)
    for name in ("ct", "regions", "attention-0"):
        text = re.search(f'id="{name}">(.*?)</script>', html, re.S)[1]
        (tmp_path / f"{name}.nii.gz").write_bytes(base64.b64decode(text))
        image, read = nib.load(tmp_path / f"{name}.nii.gz"), sitk.ReadImage(str(tmp_path / f"{name}.nii.gz"))
        np.testing.assert_allclose(sitk.GetArrayFromImage(read).T, image.get_fdata(), rtol=1e-6)
        for index in ((0, 0, 0), np.array(image.shape) - 1.0):
            ras = (image.affine @ [*index, 1])[:3]
            lps = read.TransformContinuousIndexToPhysicalPoint([float(i) for i in index])
            np.testing.assert_allclose(lps, ras * [-1, -1, 1], atol=0.02)
        if name == "attention-0":
            values = image.get_fdata()
            peak = (image.affine @ [*np.argwhere(values > 0.99 * values.max()).mean(axis=0), 1])[:3]
            assert np.linalg.norm(peak - centre[:3]) < 25  # a patch is about 20 mm wide
        else:
            assert dice(at_voxels_of(image, source) > (0 if name == "regions" else 170), bright) > 0.9
    assert set(np.unique(page.regions.array)) == {0, LIVER}
    assert np.linalg.norm(np.array(page.steps[0].position_mm) - centre[:3]) < 25
