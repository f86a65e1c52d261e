from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ctvlm.models.backbones import PretrainedTower
from ctvlm.utils.errors import CheckpointError
from ctvlm.volume import read_ct
from projects.ct_fm.ct_fm_tower import CTFMTower

segresnet_ds = pytest.importorskip("monai.networks.nets.segresnet_ds", reason="needs MONAI: ctvlm[towers]")
ROOT = Path(__file__).resolve().parents[3]
SMALL = dict(init_filters=4, blocks=(1, 1, 2, 1, 1))


@pytest.fixture(scope="module")
def hu_1DHW():
    """A part of a real CT (1, D, H, W)."""
    folder = Path(os.environ.get("CTVLM_SHARED", ROOT.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real samples at {folder}: set CTVLM_SHARED to their folder")
    ct = read_ct(next((folder / "ct/xcist_chest_siemens").glob("*.nii.gz")))
    return torch.from_numpy(ct.array).float()[None, :64, 100:228, 60:316:2]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """MONAI's network with random weights and statistics, and its file in the published layout."""
    torch.manual_seed(0)
    net = segresnet_ds.SegResEncoder(
        spatial_dims=3, in_channels=1, init_filters=SMALL["init_filters"], blocks_down=SMALL["blocks"]
    ).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    path = tmp_path_factory.mktemp("ct_fm") / "model.pt"
    torch.save(net.state_dict(), path)
    return net, str(path)


def encoder(path, prefix="", **options):
    tower = dict(type="CTFMTower", **{**SMALL, **options})
    return PretrainedTower(tower, pretrained=path, prefix=prefix, patch_size=(16, 16, 16), embed_dims=16).eval()


def by_monai(net, hu_1DHW, spacing_3):
    """Deepest features (1, E, x, y, z) by MONAI's network and transforms, as the model card names them."""
    from monai import transforms
    from monai.data import MetaTensor

    # An LPS array (x, y, z), which MONAI brings to SPL.
    z, y, x = (float(s) for s in spacing_3)
    affine = torch.diag(torch.tensor([-x, -y, z, 1.0], dtype=torch.float64))
    stored = MetaTensor(hu_1DHW.permute(0, 3, 2, 1).flip(1, 2), affine=affine)
    read = transforms.Compose(
        [transforms.Orientation("SPL"), transforms.ScaleIntensityRange(-1024, 2048, 0, 1, clip=True)]
    )
    with torch.no_grad():
        return net(read(stored).as_tensor()[None])[-1]


def at_patches(features_xyz, sizes, flipped):
    """Features 16 voxels apart, at the centres of patches of 16 voxels: linear, and constant outside."""
    for axis, (size, backwards) in enumerate(zip(sizes, flipped)):
        places = np.arange(0, size, 16.0)
        places = size - 1 - places if backwards else places
        order = np.argsort(places)
        centers = np.arange(size // 16) * 16 + 7.5
        features_xyz = np.apply_along_axis(
            lambda line, o=order, p=places, c=centers: np.interp(c, p[o], line[o]), axis, features_xyz
        )
    return features_xyz


def test_features_equal_monai_on_a_real_ct(published, hu_1DHW, record_property):
    net, path = published
    spacing_3 = torch.tensor([3.0, 0.9, 1.7])
    expected = by_monai(net, hu_1DHW, spacing_3)
    model = encoder(path)
    found = []
    model.tower.register_forward_hook(lambda module, inputs, output: found.append(output))
    with torch.no_grad():
        tokens_NE = model.features(hu_1DHW[None], model.token_context(hu_1DHW[None], spacing_3[None]))[0]
    difference = float((found[0] - expected).norm() / expected.norm())
    record_property("relative difference", difference)
    assert difference <= 1e-4
    assert float((found[0].flip(4) - expected).norm() / expected.norm()) > 0.01
    # The patches are in (S, A, R), the features in (S, P, L).
    for feature in (0, 17):
        naive = at_patches(expected[0, feature].numpy(), (64, 128, 128), (False, True, True))
        np.testing.assert_allclose(tokens_NE[:, feature].view(4, 8, 8), naive, rtol=1e-3, atol=1e-4)


def test_features_are_centred_where_the_tower_states():
    """Voxels that change a feature lie around i * stride."""
    torch.manual_seed(0)
    tower = CTFMTower(init_filters=1, blocks=(1, 1, 1, 1, 1)).eval()
    for module in tower.modules():
        if isinstance(module, torch.nn.Conv3d):
            torch.nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    volume = torch.rand(1, 1, 80, 80, 80, requires_grad=True)
    tower(volume)[0, :, 2, 2, 2].sum().backward()
    gradient = volume.grad[0, 0]
    for axis in range(3):
        profile = gradient.sum(dim=[a for a in range(3) if a != axis])
        center = float((profile * torch.arange(len(profile))).sum() / profile.sum())
        assert abs(center - 32) < 3


def test_default_is_the_published_architecture():
    """77.8 million parameters; the names are those of MONAI's encoder."""
    with torch.device("meta"):
        ours = CTFMTower().net.state_dict()
        theirs = segresnet_ds.SegResEncoder(init_filters=32, blocks_down=(1, 2, 2, 4, 4)).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert sum(v.numel() for v in ours.values()) == pytest.approx(77.8e6, rel=0.01)


def test_encoder_of_a_segmentation_network(published, tmp_path):
    """A SegResNet file, as CT-FM's whole-body model: the encoder has a prefix, the decoder is ignored."""
    net = segresnet_ds.SegResNetDS(init_filters=SMALL["init_filters"], blocks_down=SMALL["blocks"], out_channels=3)
    torch.save(net.state_dict(), tmp_path / "segresnet.pt")
    model = encoder(str(tmp_path / "segresnet.pt"), prefix="encoder.")
    assert torch.equal(model.tower.net.conv_init.weight, net.encoder.conv_init.weight)


def test_other_files_are_one_message(published, tmp_path):
    net, path = published
    with pytest.raises(CheckpointError, match=r"another shape \(conv_init\.weight .*sizes of backbone\.tower"):
        encoder(path, init_filters=8)
    with pytest.raises(CheckpointError, match=r"missing \(layers\.\d.*Check that this is a checkpoint of CTFM"):
        encoder(path, blocks=(1, 1, 2, 1, 2))
    renamed = {key.replace("layers.", "levels."): value for key, value in net.state_dict().items()}
    torch.save(renamed, tmp_path / "renamed.pt")
    with pytest.raises(CheckpointError, match=r"missing \(layers\.0.*not in the model \(levels\.0"):
        encoder(str(tmp_path / "renamed.pt"))
    with pytest.raises(CheckpointError, match=r"starts with prefix = 'encoder\.'; found conv_init"):
        encoder(path, prefix="encoder.")
