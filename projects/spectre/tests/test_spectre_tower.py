from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import pytest
import torch

from ctvlm.engine import load_config
from ctvlm.models.backbones.tower_canvas import to_canvas
from ctvlm.registry import BACKBONES
from ctvlm.utils.errors import CheckpointError
from ctvlm.volume import read_ct
from projects.spectre.spectre_tower import SpectreTower

spectre = pytest.importorskip("spectre", reason="needs spectre-fm: pip install 'ctvlm[towers]'")
SMALL = dict(embed_dims=24, depth=2, num_heads=2, spacing=None)
ROOT = Path(__file__).resolve().parents[3]
CROP = (128, 128, 64)


@pytest.fixture
def shared_data():
    """Folder with real CTs: CTVLM_SHARED, or ../shared/data of the checkout."""
    folder = Path(os.environ.get("CTVLM_SHARED", ROOT.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real samples at {folder}: set CTVLM_SHARED to their folder")
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The package's model with random weights, and its file in the published layout."""
    torch.manual_seed(0)
    net = spectre.models.VisionTransformer(
        embed_dim=24, depth=2, num_heads=2, norm_layer=torch.nn.LayerNorm, **spectre.presets.BACKBONE_KWARGS
    ).eval()
    for parameter in net.parameters():  # the initial weights are almost symmetric
        torch.nn.init.normal_(parameter, std=0.2)
    path = tmp_path_factory.mktemp("spectre") / "spectre_backbone.pt"
    torch.save(net.state_dict(), path)
    return net, str(path)


def encoder(path, **options):
    tower = dict(type="SpectreTower", **{**SMALL, **options})
    config = dict(type="PretrainedTower", tower=tower, pretrained=path, patch_size=(8, 16, 16), embed_dims=16)
    return BACKBONES.build(config).eval()


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def by_package(net, volume_HWD):
    """Features of the package's own pipeline on an RAS array in HU: (x, y, z, E)."""
    crops, (nx, ny, nz) = spectre.window_scan(volume_HWD, CROP)
    with torch.no_grad():
        tokens = net(crops)[:, 1:].view(nx, ny, nz, 8, 8, 8, -1)
    return tokens.permute(0, 3, 1, 4, 2, 5, 6).reshape(nx * 8, ny * 8, nz * 8, -1)


def test_default_is_the_published_architecture():
    with torch.device("meta"):
        ours = SpectreTower().net.state_dict()
        theirs = spectre.models.vit_large_patch16_128(**spectre.presets.BACKBONE_KWARGS).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_features_equal_the_package_on_a_real_ct(published, shared_data, tmp_path, record_property):
    """Both sides read a file: the package one in its own orientation (RAS), ctvlm one in another (LPS)."""
    net, weights = published
    source = next((shared_data / "ct/xcist_chest_siemens").glob("*.nii.gz"))
    ct = read_ct(source)
    hu_DHW = torch.from_numpy(ct.array).float()[:64, 100:228, 60:316]
    volume_RAS = hu_DHW.permute(2, 1, 0).numpy()
    affine = torch.diag(torch.tensor([0.7, 0.7, 1.5, 1.0])).numpy()
    image = nib.Nifti1Image(volume_RAS, affine)
    nib.save(image, tmp_path / "ras.nii.gz")  # the package cannot read files that it has to flip
    target = nib.orientations.axcodes2ornt(("L", "P", "S"))
    image = image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), target))
    nib.save(image, tmp_path / "lps.nii.gz")
    volume, meta = spectre.load_ct(tmp_path / "ras.nii.gz")
    assert meta.orientation == "RAS"
    expected = by_package(net, volume).permute(2, 1, 0, 3).flatten(0, 2)
    stored = read_ct(tmp_path / "lps.nii.gz")
    hu = torch.from_numpy(stored.array).float()[None, None]
    model = encoder(weights)
    with torch.no_grad():
        ctx = model.token_context(hu, torch.tensor(stored.spacing, dtype=torch.float32)[None])
        found = model.features(hu, ctx)[0]
    record_property("relative difference", relative(found, expected))
    assert relative(found, expected) <= 1e-4
    assert relative(found.view(8, 8, 16, -1).flip(2).flatten(0, 2), expected) > 0.01


def test_resampling_equals_monai():
    """HU are windowed before the interpolation, and the first voxels have the same centre."""
    transforms = pytest.importorskip("monai.transforms", reason="the package resamples with MONAI")
    from monai.data import MetaTensor

    hu = torch.rand(40, 70, 90, generator=torch.Generator().manual_seed(0)) * 3000 - 1500
    affine = torch.diag(torch.tensor([0.7, 0.9, 2.0, 1.0], dtype=torch.float64))
    windowed = spectre.scale_intensity_range(hu.permute(2, 1, 0)[None])
    resampled = transforms.Spacing((0.5, 0.5, 1.25))(MetaTensor(windowed, affine=affine)).as_tensor()
    crops, grid = spectre.window_scan(resampled, CROP, scale_intensity=False)
    tower = SpectreTower(**{**SMALL, "spacing": (0.5, 0.5, 1.25)})
    canvas, _ = to_canvas(hu, torch.tensor([2.0, 0.9, 0.7]), tower.convention)
    assert grid == (1, 1, 1)
    assert canvas.shape[2:] == CROP
    torch.testing.assert_close(canvas, crops, rtol=0, atol=1e-4)


def test_other_files_are_one_message(published, tmp_path):
    net, path = published
    with pytest.raises(CheckpointError, match=r"another shape.*patch_embed"):
        encoder(path, patch_size=(16, 16, 16))
    renamed = {key.replace("blocks.", "layers."): value for key, value in net.state_dict().items()}
    torch.save(renamed, tmp_path / "renamed.pt")
    with pytest.raises(CheckpointError, match=r"weights match; .* missing \(blocks\.0.*not in the model \(layers\.0"):
        encoder(str(tmp_path / "renamed.pt"))
    with pytest.raises(CheckpointError, match="weights match"):
        encoder(path, depth=3)


def test_config():
    config = load_config(ROOT / "configs/towers/spectre_frozen.py")
    assert config.model.backbone.tower.type == "SpectreTower"
