from __future__ import annotations

import pytest
import torch
from torch import nn

from ctvlm.models.backbones import InputConvention, PretrainedTower, Tower
from ctvlm.models.backbones.tower_canvas import from_canvas, to_canvas
from ctvlm.models.backbones.tower_weights import choose_trained
from ctvlm.registry import TOWERS
from ctvlm.utils import CTVLMError
from ctvlm.utils.errors import CheckpointError
from ctvlm.utils.pretrained_files import use_pretrained_files

HU = (-1000.0, 1000.0)


@TOWERS.register_module(force=True)
class MeanTower(Tower):
    """The mean of each patch, then a layer: its features show where they come from."""

    def __init__(self, orientation="SAR", spacing=None, stride=(2, 4, 4), width=6, values=(0.0, 1.0), normed=False):
        net = nn.Sequential(nn.Conv3d(1, width, stride, stride), nn.BatchNorm3d(width) if normed else nn.Identity())
        net.append(nn.Conv3d(width, width, 1))
        super().__init__(net, width, InputConvention(orientation, spacing, HU, values, multiple=stride), stride)

    def forward(self, volume_BCXYZ):
        return self.net(volume_BCXYZ)

    def stages(self):
        return [self.net[0], self.net[2]]


def encoder(train="frozen", patch_size=(2, 4, 4), **tower):
    torch.manual_seed(0)
    return PretrainedTower(dict(type="MeanTower", **tower), train=train, patch_size=patch_size, embed_dims=8)


def hu_volume(batch=2, size=(8, 16, 12)):
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(1)) * 2000 - 1000


@pytest.mark.parametrize("orientation", ["SAR", "RAS", "LPS", "IRP", "PLI"])
def test_coordinates_return_to_their_place(orientation):
    """A volume of its own coordinates in mm: its features at the patches are the centres of the patches."""
    spacing_3 = torch.tensor([3.0, 1.5, 1.0])
    stride = {"S": 2, "I": 2, "A": 4, "P": 4, "R": 3, "L": 3}
    strides = tuple(stride[code] for code in orientation)
    size, grid = (8, 16, 12), (4, 4, 4)
    axes_mm = [(torch.arange(n) + 0.5) * s for n, s in zip(size, spacing_3)]
    for axis in range(3):
        hu = axes_mm[axis].view([-1 if a == axis else 1 for a in range(3)]).expand(size)
        convention = InputConvention(orientation, None, hu=(0.0, 100.0), values=(0.0, 100.0), multiple=strides)
        canvas, maps = to_canvas(hu, spacing_3, convention)
        features = nn.functional.avg_pool3d(canvas, strides)[0]
        centers = tuple((s - 1) / 2 for s in strides)
        patch_mm_3 = spacing_3 * torch.tensor([2, 4, 3])
        found = from_canvas(features, maps, strides, centers, convention.axes, grid, patch_mm_3).view(grid)
        expected = ((torch.arange(4) + 0.5) * patch_mm_3[axis]).view([-1 if a == axis else 1 for a in range(3)])
        torch.testing.assert_close(found, expected.expand(grid), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("orientation", ["RAS", "LPS"])
def test_coordinates_return_after_resampling_and_padding(orientation):
    spacing_3, size, grid = torch.tensor([3.0, 1.5, 1.0]), (12, 32, 36), (6, 8, 9)
    convention = InputConvention(orientation, (0.8, 1.1, 2.0), hu=(0.0, 100.0), values=(0.0, 100.0), multiple=(7, 5, 4))
    for axis in range(3):
        shape = [-1 if a == axis else 1 for a in range(3)]
        hu = ((torch.arange(size[axis]) + 0.5) * spacing_3[axis]).view(shape)
        canvas, maps = to_canvas(hu.expand(size), spacing_3, convention)
        assert all(s % m == 0 for s, m in zip(canvas.shape[2:], (7, 5, 4)))
        patch_mm_3 = spacing_3 * torch.tensor([2, 4, 4])
        found = from_canvas(canvas[0], maps, (1, 1, 1), (0.0, 0.0, 0.0), convention.axes, grid, patch_mm_3).view(grid)
        expected = ((torch.arange(grid[axis]) + 0.5) * patch_mm_3[axis]).view(
            [-1 if a == axis else 1 for a in range(3)]
        )
        inner = (slice(1, -1),) * 3
        torch.testing.assert_close(found[inner], expected.expand(grid)[inner], rtol=0, atol=0.02)


def test_orientation_flips_and_permutes():
    hu = hu_volume(1, (2, 3, 4))[0, 0]
    canvas, _ = to_canvas(hu, torch.ones(3), InputConvention("LPS", None, HU, values=HU))
    torch.testing.assert_close(canvas[0, 0], hu.permute(2, 1, 0).flip(0, 1))


@pytest.mark.parametrize("orientation", ["RA", "RAA", "RLS", "XYZ"])
def test_wrong_orientation(orientation):
    with pytest.raises(ValueError, match="one of each pair"):
        InputConvention(orientation, None, HU)


def test_features_equal_the_tower_and_batches_do_not_mix():
    model, volume = encoder(orientation="RAS", stride=(4, 4, 2)).eval(), hu_volume()
    spacing_B3 = torch.tensor([[3.0, 1.0, 1.0], [2.0, 0.8, 0.7]])
    found = model.features(volume, model.token_context(volume, spacing_B3))
    canvas = (volume.permute(0, 1, 4, 3, 2) + 1000) / 2000
    expected = model.tower.net(canvas).permute(0, 4, 3, 2, 1).flatten(1, 3)
    torch.testing.assert_close(found, expected)
    alone = model(volume[1:], None, spacing_B3[1:]).tokens
    torch.testing.assert_close(model(volume, None, spacing_B3).tokens[1:], alone)


def test_regions_and_positions():
    model, volume = encoder().eval(), hu_volume()
    region_map = torch.zeros(2, 8, 16, 12, dtype=torch.long)
    region_map[:, :4, :8] = 3
    out = model(volume, region_map, torch.full((2, 3), 2.0))
    assert out.grid == (4, 4, 3)
    torch.testing.assert_close(out.positions[0, 0], torch.tensor([2.0, 4.0, 4.0]))
    inside = out.patch_to_region[0, :, 3] > 0
    expected = out.tokens[0][inside].mean(dim=0) + model.region_encoder.region_embedding[2]
    torch.testing.assert_close(out.region_tokens[0, 2], expected)


def test_depth_wise_convolutions_get_no_adapters():
    pytest.importorskip("peft", reason="LoRA needs peft")
    tower = MeanTower()
    tower.net.append(nn.Conv3d(6, 6, 3, padding=1, groups=6))
    adapted, _ = choose_trained(tower, "lora", 1, dict(r=2))
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained and all(".net.0." in name or ".net.2." in name for name in trained)


@pytest.mark.parametrize("train", ["frozen", "top", "lora", "full"])
def test_what_is_trained(train):
    if train == "lora":
        pytest.importorskip("peft", reason="LoRA needs peft")
    model = encoder(train, normed=True)
    if train == "top":
        model = PretrainedTower(dict(type="MeanTower", normed=True), train="top", top_stages=1, patch_size=(2, 4, 4))
    statistics = {k: v.clone() for k, v in model.tower.state_dict().items() if "running" in k}
    model.train()(hu_volume()).tokens.square().sum().backward()
    trained = {name for name, p in model.tower.named_parameters() if p.grad is not None}
    every = {name for name, _ in model.tower.named_parameters()}
    expected = {
        "frozen": set(),
        "top": {name for name in every if name.startswith("net.2")},
        "lora": {name for name in every if "lora_" in name},
        "full": every,
    }[train]
    assert trained == expected
    assert model.proj.weight.grad is not None
    assert all(torch.equal(model.tower.state_dict()[k], v) for k, v in statistics.items())


def saved(tmp_path, weights, name="tower.pt"):
    torch.save(weights, tmp_path / name)
    return str(tmp_path / name)


def test_published_weights_are_loaded_below_their_prefix(tmp_path):
    source = MeanTower()
    weights = {f"visual.{key}": value for key, value in source.net.state_dict().items()} | {"text.w": torch.ones(2)}
    path = saved(tmp_path, {"state_dict": weights})
    model = PretrainedTower(dict(type="MeanTower"), pretrained=path, prefix="visual.", patch_size=(2, 4, 4))
    for key, value in source.net.state_dict().items():
        assert torch.equal(model.tower.net.state_dict()[key], value)
    # A model is built from its own checkpoint without the published file.
    state_dict = model.state_dict()
    (tmp_path / "tower.pt").unlink()
    with use_pretrained_files(state_dict):
        again = PretrainedTower(dict(type="MeanTower"), pretrained=path, prefix="visual.", patch_size=(2, 4, 4))
    again.load_state_dict(state_dict)
    torch.testing.assert_close(again.eval()(hu_volume()).tokens, model.eval()(hu_volume()).tokens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "renamed",
            r"3 of .* 4 weights match; 1 of .* missing \(0.bias\); 1 are not in the model \(0.shift\)",
        ),
        ("size", r"1 have another shape \(0.weight \(6, 1, 4, 4, 4\) instead of \(6, 1, 2, 4, 4\)\)"),
        ("other", "0 of the model's 4 weights match.*Check that this is a checkpoint of MeanTower"),
    ],
)
def test_another_checkpoint_is_one_message(tmp_path, change, message):
    weights = MeanTower().net.state_dict()
    if change == "renamed":
        weights["0.shift"] = weights.pop("0.bias")
    elif change == "size":
        weights = MeanTower(stride=(4, 4, 4)).net.state_dict()
    else:
        weights = nn.Linear(2, 2).state_dict()
    with pytest.raises(CheckpointError, match=message):
        PretrainedTower(dict(type="MeanTower"), pretrained=saved(tmp_path, weights))


def test_wrong_prefix_and_unreadable_files(tmp_path):
    path = saved(tmp_path, MeanTower().net.state_dict())
    with pytest.raises(CheckpointError, match=r"starts with prefix = 'x\.'; found 0\.weight"):
        PretrainedTower(dict(type="MeanTower"), pretrained=path, prefix="x.")
    with pytest.raises(CheckpointError, match="not found"):
        PretrainedTower(dict(type="MeanTower"), pretrained=str(tmp_path / "absent.pt"))
    with pytest.raises(CheckpointError, match="tensors and plain containers only"):
        PretrainedTower(dict(type="MeanTower"), pretrained=saved(tmp_path, MeanTower(), "module.pt"))


def test_wrong_options():
    with pytest.raises(ValueError, match="train = 'all'"):
        encoder("all")
    with pytest.raises(ValueError, match="top_stages = 5"):
        PretrainedTower(dict(type="MeanTower"), train="top", top_stages=5)
    with pytest.raises(CTVLMError, match="masks patches"):
        encoder().token_context(hu_volume(), visible_BN=torch.ones(2, 64, dtype=torch.bool))
    with pytest.raises(ValueError, match="channels"):
        encoder()(hu_volume().expand(-1, 3, -1, -1, -1))
