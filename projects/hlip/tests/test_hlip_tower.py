"""HLIP has no package: its tower is compared with a second implementation, in plain tensor operations."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ctvlm.models.backbones import PretrainedTower
from ctvlm.utils.errors import CheckpointError
from ctvlm.volume import read_ct
from projects.hlip.hlip_tower import HLIPTower

ROOT = Path(__file__).resolve().parents[3]
PREFIX = "module.visual.trunk."
WIDTH, HEADS, DEPTH = 24, 2, 5
SMALL = dict(embed_dims=WIDTH, depth=DEPTH, num_heads=HEADS, scan_blocks=(2, 4), img_size=(32, 96, 96), spacing=None)


@pytest.fixture(scope="module")
def hu_DHW():
    """A part of a real CT (D, H, W)."""
    folder = Path(os.environ.get("CTVLM_SHARED", ROOT.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real samples at {folder}: set CTVLM_SHARED to their folder")
    ct = read_ct(next((folder / "ct/xcist_chest_siemens").glob("*.nii.gz")))
    return torch.from_numpy(ct.array).float()[:40, 100:292:2, 60:348:2]


def layout(width, depth, img_size, patch=(8, 24, 24)):
    """Names and shapes below ``visual.trunk.``, as published."""
    grid = tuple(size // p for size, p in zip(img_size, patch))
    shapes = {
        "cls_token": (1, 1, width),
        "spatial_posemb": (1, *grid, width),
        "patch_embed.proj.weight": (width, 1, *patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for i in range(depth):
        linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        linear |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
        for name, shape in linear.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{name}.weight": (width,), f"blocks.{i}.{name}.bias": (width,)}
    return shapes


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Random weights in the published layout, and their file."""
    generator = torch.Generator().manual_seed(0)
    shapes = layout(WIDTH, DEPTH, SMALL["img_size"])
    weights = {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}
    path = tmp_path_factory.mktemp("hlip") / "hlip.pt"
    everything = {PREFIX + name: value for name, value in weights.items()} | {"module.logit_scale": torch.ones(())}
    torch.save({"epoch": 20, "state_dict": everything}, path)
    return weights, str(path)


def encoder(path, prefix=PREFIX, **options):
    tower = dict(type="HLIPTower", **{**SMALL, **options})
    return PretrainedTower(tower, pretrained=path, prefix=prefix, patch_size=(8, 24, 24), embed_dims=16).eval()


def layer_norm(x, w, name):
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(var + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]


def one_block(x, w, name):
    """A transformer block on a sequence (N, E), head by head."""
    normed = layer_norm(x, w, f"{name}.norm1")
    q, k, v = (normed @ w[f"{name}.attn.qkv.weight"].T + w[f"{name}.attn.qkv.bias"]).split(WIDTH, dim=1)
    heads, size = [], WIDTH // HEADS
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = q[:, part] @ k[:, part].T / size**0.5
        heads.append(torch.softmax(scores, dim=1) @ v[:, part])
    x = x + torch.cat(heads, dim=1) @ w[f"{name}.attn.proj.weight"].T + w[f"{name}.attn.proj.bias"]
    hidden = layer_norm(x, w, f"{name}.norm2") @ w[f"{name}.mlp.fc1.weight"].T + w[f"{name}.mlp.fc1.bias"]
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return x + hidden @ w[f"{name}.mlp.fc2.weight"].T + w[f"{name}.mlp.fc2.bias"]


def naive(weights, canvas_DHW, scan_blocks):
    """Features (d, h, w, E) and class token in double precision: slices are lists, and each has its class token."""
    w = {name: value.double() for name, value in weights.items()}
    depth, height, width = (size // patch for size, patch in zip(canvas_DHW.shape, (8, 24, 24)))
    positions = w["spatial_posemb"]
    if positions.shape[1:4] != (depth, height, width):
        positions = F.interpolate(
            positions.permute(0, 4, 1, 2, 3), (depth, height, width), mode="trilinear", align_corners=False
        ).permute(0, 2, 3, 4, 1)
    kernel = w["patch_embed.proj.weight"].flatten(1)
    slices, classes = [], []
    for z in range(depth):
        tokens = []
        for y in range(height):
            for x in range(width):
                patch = canvas_DHW[8 * z : 8 * z + 8, 24 * y : 24 * y + 24, 24 * x : 24 * x + 24].double()
                token = kernel @ patch.flatten() + w["patch_embed.proj.bias"]
                tokens.append(token + positions[0, z, y, x])
        slices.append(torch.stack(tokens))
        classes.append(w["cls_token"][0, 0])
    for index in range(DEPTH):
        name = f"blocks.{index}"
        if index in scan_blocks:
            shared = sum(classes) / depth
            whole = one_block(torch.cat([shared[None], *slices]), w, name)
            classes = [whole[0]] * depth
            slices = list(whole[1:].split(height * width))
        else:
            done = [one_block(torch.cat([c[None], s]), w, name) for c, s in zip(classes, slices)]
            classes, slices = [s[0] for s in done], [s[1:] for s in done]
    features = layer_norm(torch.stack(slices), w, "norm").view(depth, height, width, WIDTH)
    return features, layer_norm(sum(classes) / depth, w, "norm")


def canvas_of(hu_DHW, img_size):
    """Window, axes towards (S, P, L), padding on both sides, normalisation: in the order of HLIP's loader."""
    array = np.clip((hu_DHW.numpy().astype(np.float64) + 1150) / 1500, 0, 1)[:, ::-1, ::-1]
    sizes = [max(-(-size // patch) * patch, least) for size, patch, least in zip(array.shape, (8, 24, 24), img_size)]
    pads = [((wanted - size) // 2, wanted - size - (wanted - size) // 2) for wanted, size in zip(sizes, array.shape)]
    mean, std = np.mean([0.485, 0.456, 0.406]), np.mean([0.229, 0.224, 0.225])
    return torch.from_numpy((np.pad(array, pads) - mean) / std)


@pytest.mark.parametrize("img_size", [(32, 96, 96), (48, 96, 144)], ids=["positions interpolated", "padded"])
def test_features_equal_a_naive_version_on_a_real_ct(hu_DHW, img_size, published, tmp_path, record_property):
    """The volume is larger than the size of the training, or smaller."""
    weights, _ = published
    table = torch.randn(layout(WIDTH, DEPTH, img_size)["spatial_posemb"], generator=torch.Generator().manual_seed(1))
    weights = {**weights, "spatial_posemb": table * 0.2}
    torch.save({PREFIX + name: value for name, value in weights.items()}, tmp_path / "hlip.pt")
    expected, _ = naive(weights, canvas_of(hu_DHW, img_size), SMALL["scan_blocks"])
    model, found = encoder(str(tmp_path / "hlip.pt"), img_size=img_size), []
    model.tower.register_forward_hook(lambda module, inputs, output: found.append(output[0].permute(1, 2, 3, 0)))
    volume = hu_DHW[None, None]
    with torch.no_grad():
        tokens = model.features(volume, model.token_context(volume, torch.tensor([[3.0, 1.7, 1.7]])))[0]
    difference = relative(found[0], expected)
    record_property("relative difference", difference)
    assert difference <= 1e-4
    assert relative(found[0].flip(2), expected) > 0.01
    if img_size[0] < 40:  # patches of volume and tower are the same, on axes towards (S, A, R) and (S, P, L)
        assert relative(tokens, expected.flip(1, 2).flatten(0, 2)) <= 1e-4


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def test_attention_stays_in_the_slice_until_a_block_of_the_scan(published):
    """A change of the first slice of patches reaches others only through a block of the scan."""
    _, path = published
    changed = {}
    for scan_blocks in ((), (1,)):
        tower = encoder(path, scan_blocks=scan_blocks).tower
        volume = torch.randn(1, 1, 32, 96, 96, generator=torch.Generator().manual_seed(0))
        other = volume.clone()
        other[:, :, :8] += 1
        with torch.no_grad():
            difference = (tower(volume) - tower(other)).abs().amax(dim=(0, 1, 3, 4))
        assert difference[0] > 1e-3
        changed[scan_blocks] = bool((difference[1:] > 1e-6).all())
    assert changed == {(): False, (1,): True}


def test_a_ct_is_the_first_scan_of_a_study(published, tmp_path):
    weights, path = published
    positions = torch.randn(1, 40, WIDTH)
    torch.save(
        {PREFIX + k: v for k, v in weights.items()} | {PREFIX + "sequential_posemb": positions}, tmp_path / "s.pt"
    )
    found, other = encoder(str(tmp_path / "s.pt")).tower.net, encoder(path).tower.net
    torch.testing.assert_close(found.spatial_posemb, other.spatial_posemb + positions[0, 0])


def test_default_is_the_published_layout():
    with torch.device("meta"):
        ours = HLIPTower().net.state_dict()
    assert {name: tuple(value.shape) for name, value in ours.items()} == layout(768, 12, (112, 336, 336))
    assert sum(p.numel() for p in HLIPTower(depth=1).net.blocks[0].parameters()) == 12 * 768**2 + 13 * 768


def test_other_files_are_one_message(published, tmp_path):
    weights, path = published
    with pytest.raises(CheckpointError, match=r"2 have another shape \(spatial_posemb.*sizes of backbone\.tower"):
        encoder(path, patch_size=(8, 16, 16))
    with pytest.raises(CheckpointError, match=r"missing \(blocks\.5\..*Check that this is a checkpoint of HLIPTower"):
        encoder(path, depth=6)
    with pytest.raises(CheckpointError, match=r"starts with prefix = 'visual\.trunk\.'; found module\.visual\.trunk"):
        encoder(path, prefix="visual.trunk.")
    renamed = {PREFIX + name.replace("qkv", "in_proj"): value for name, value in weights.items()}
    torch.save(renamed, tmp_path / "renamed.pt")
    with pytest.raises(
        CheckpointError, match=r"missing \(blocks\.0\.attn\.qkv.*not in the model \(blocks\.0\.attn\.in_proj"
    ):
        encoder(str(tmp_path / "renamed.pt"))
