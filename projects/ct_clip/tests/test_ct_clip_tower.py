"""CT-CLIP has no package: its tower is compared with a second implementation, in plain tensor operations."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ctvlm.models.backbones import PretrainedTower
from ctvlm.utils.errors import CheckpointError
from ctvlm.volume import read_ct
from projects.ct_clip.ct_clip_tower import CTClipHead, CTClipTower
from projects.ct_clip.ct_vit import Codebook

ROOT = Path(__file__).resolve().parents[3]
PREFIX = "visual_transformer."
PATCH = (10, 20, 20)
WIDTH, HEADS, HEAD, CODES = 24, 2, 8, 16
SIZES = dict(embed_dims=WIDTH, spatial_depth=2, temporal_depth=2, num_heads=HEADS, head_dims=HEAD, codebook_size=CODES)
SMALL = dict(img_size=(40, 80, 80), spacing=None, **SIZES)


@pytest.fixture(scope="module")
def hu_DHW():
    """A part of a real CT (D, H, W)."""
    folder = Path(os.environ.get("CTVLM_SHARED", ROOT.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real samples at {folder}: set CTVLM_SHARED to their folder")
    ct = read_ct(next((folder / "ct/xcist_chest_siemens").glob("*.nii.gz")))
    return torch.from_numpy(ct.array).float()[:40, 100:420:4, 60:380:4]


def layout(width, heads, head, codes, depths=(2, 2), first=400, voxels=4000):
    """Names and shapes below ``visual_transformer.``, as published, with the parts that the tokens do not use."""
    inner = int(4 * (2 / 3) * width)
    shapes = {
        "spatial_rel_pos_bias.net.0.0.weight": (width, 2),
        "spatial_rel_pos_bias.net.0.0.bias": (width,),
        "spatial_rel_pos_bias.net.1.0.weight": (width, width),
        "spatial_rel_pos_bias.net.1.0.bias": (width,),
        "spatial_rel_pos_bias.net.2.weight": (heads, width),
        "spatial_rel_pos_bias.net.2.bias": (heads,),
        "vq._codebook.initted": (1,),
        "vq._codebook.cluster_size": (1, codes),
        "vq._codebook.embed": (1, codes, width),
        "to_pixels.0.weight": (voxels, width),
        "to_pixels.0.bias": (voxels,),
        "to_pixels_first_frame.0.weight": (first, width),
        "to_pixels_first_frame.0.bias": (first,),
    }
    for part, size in (("to_patch_emb", voxels), ("to_patch_emb_first_frame", first)):
        for index, dims in ((1, size), (3, width)):
            shapes |= {f"{part}.{index}.weight": (dims,), f"{part}.{index}.bias": (dims,)}
        shapes |= {f"{part}.2.weight": (width, size), f"{part}.2.bias": (width,)}
    for side in ("enc", "dec"):
        for kind, depth in zip(("spatial", "temporal"), depths):
            name = f"{side}_{kind}_transformer"
            shapes |= {f"{name}.norm_out.gamma": (width,), f"{name}.norm_out.beta": (width,)}
            for i in range(depth):
                layer = f"{name}.layers.{i}"
                shapes |= {f"{layer}.0.dsconv.weight": (width, 1, 3, 3, 3), f"{layer}.0.dsconv.bias": (width,)}
                shapes |= {f"{layer}.1.null_kv": (heads, 0, head)}
                shapes |= {f"{layer}.1.q_scale": (head,), f"{layer}.1.k_scale": (head,)}
                for norm in ("norm", "context_norm"):
                    shapes |= {f"{layer}.1.{norm}.gamma": (width,), f"{layer}.1.{norm}.beta": (width,)}
                shapes |= {f"{layer}.1.to_q.weight": (heads * head, width)}
                shapes |= {f"{layer}.1.to_kv.weight": (2 * heads * head, width)}
                shapes |= {f"{layer}.1.to_out.weight": (width, heads * head)}
                shapes |= {f"{layer}.3.0.weight": (width,), f"{layer}.3.0.bias": (width,)}
                shapes |= {f"{layer}.3.1.weight": (2 * inner, width), f"{layer}.3.4.weight": (width, inner)}
    return shapes


def save(weights, path):
    others = {"text_transformer.embeddings.position_ids": torch.arange(8)[None], "temperature": torch.ones(())}
    torch.save({PREFIX + name: value for name, value in weights.items()} | others, path)
    return str(path)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Random weights in the published layout, and their file."""
    generator = torch.Generator().manual_seed(0)
    shapes = layout(WIDTH, HEADS, HEAD, CODES)
    weights = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
    return weights, save(weights, tmp_path_factory.mktemp("ct_clip") / "CT-CLIP.pt")


def encoder(path, prefix=PREFIX, **options):
    tower = dict(type="CTClipTower", **{**SMALL, **options})
    return PretrainedTower(tower, pretrained=path, prefix=prefix, patch_size=PATCH, embed_dims=16).eval()


def norm(x, scale, offset):
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(var + 1e-5) * scale + offset


def conv(x_abcE, w, name):
    """Depth-wise convolution as 27 shifted sums; the first axis sees the places two and one before, and its own."""
    padded = torch.zeros(*(n + 2 for n in x_abcE.shape[:3]), x_abcE.shape[3], dtype=x_abcE.dtype)
    padded[2:, 1:-1, 1:-1] = x_abcE
    a, b, c = x_abcE.shape[:3]
    found = w[f"{name}.bias"].expand_as(x_abcE).clone()
    for i, j, k in np.ndindex(3, 3, 3):
        found += padded[i : i + a, j : j + b, k : k + c] * w[f"{name}.weight"][:, 0, i, j, k]
    return found


def attend(x_NE, w, name, bias):
    """Attention of one sequence, head by head; keys and values are those of the tokens before the norm."""
    q = norm(x_NE, w[f"{name}.norm.gamma"], w[f"{name}.norm.beta"]) @ w[f"{name}.to_q.weight"].T
    k, v = (x_NE @ w[f"{name}.to_kv.weight"].T).split(HEADS * HEAD, dim=1)
    heads = []
    for head in range(HEADS):
        part = slice(head * HEAD, (head + 1) * HEAD)
        unit_q = q[:, part] / q[:, part].norm(dim=1, keepdim=True) * w[f"{name}.q_scale"]
        unit_k = k[:, part] / k[:, part].norm(dim=1, keepdim=True) * w[f"{name}.k_scale"]
        scores = 8 * unit_q @ unit_k.T
        heads.append(torch.softmax(scores if bias is None else scores + bias[head], dim=1) @ v[:, part])
    return torch.cat(heads, dim=1) @ w[f"{name}.to_out.weight"].T


def feed_forward(x, w, name):
    hidden = norm(x, w[f"{name}.0.weight"], w[f"{name}.0.bias"]) @ w[f"{name}.1.weight"].T
    values, gate = hidden.split(hidden.shape[-1] // 2, dim=-1)
    return (values * gate * 0.5 * (1 + torch.erf(gate / 2**0.5))) @ w[f"{name}.4.weight"].T


def bias_of(w, height, width):
    """Bias of each pair of patches, pair by pair: (K, N, N)."""
    places = [(y, x) for y in range(height) for x in range(width)]
    found = torch.zeros(HEADS, len(places), len(places), dtype=torch.float64)
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            far = [math.copysign(math.log(abs(d) + 1), d) for d in (y - v, x - u)]
            value = torch.tensor(far, dtype=torch.float64)
            for layer in ("0.0", "1.0"):
                value = w[f"spatial_rel_pos_bias.net.{layer}.weight"] @ value
                value = torch.nn.functional.leaky_relu(value + w[f"spatial_rel_pos_bias.net.{layer}.bias"], 0.1)
            found[:, i, j] = w["spatial_rel_pos_bias.net.2.weight"] @ value + w["spatial_rel_pos_bias.net.2.bias"]
    return found


def naive_tokens(w, canvas_TYX):
    """Tokens before the codebook (t, h, w, E), in double precision. The grid has to be a cube."""
    t, h, w_ = grid = tuple(size // patch for size, patch in zip(canvas_TYX.shape, PATCH))
    x = torch.zeros(*grid, WIDTH, dtype=torch.float64)
    for place in np.ndindex(*grid):
        region = tuple(slice(i * p, (i + 1) * p) for i, p in zip(place, PATCH))
        patch = norm(canvas_TYX[region].flatten(), w["to_patch_emb.1.weight"], w["to_patch_emb.1.bias"])
        patch = w["to_patch_emb.2.weight"] @ patch + w["to_patch_emb.2.bias"]
        x[place] = norm(patch, w["to_patch_emb.3.weight"], w["to_patch_emb.3.bias"])
    bias = bias_of(w, h, w_)
    for i in range(2):
        name = f"enc_spatial_transformer.layers.{i}"
        x = x + conv(x, w, f"{name}.0.dsconv")
        for z in range(t):
            x[z] = x[z] + attend(x[z].reshape(h * w_, WIDTH), w, f"{name}.1", bias).view(h, w_, WIDTH)
        x = x + feed_forward(x, w, f"{name}.3")
    x = norm(x, w["enc_spatial_transformer.norm_out.gamma"], w["enc_spatial_transformer.norm_out.beta"])
    x = x.permute(1, 2, 0, 3).clone()  # the published code puts depth last, and convolves as if the axes were (t, h, w)
    for i in range(2):
        name = f"enc_temporal_transformer.layers.{i}"
        x = x + conv(x.reshape(t, h, w_, WIDTH), w, f"{name}.0.dsconv").reshape(h, w_, t, WIDTH)
        for place in np.ndindex(h, w_):
            x[place] = x[place] + attend(x[place], w, f"{name}.1", None)
        x = x + feed_forward(x, w, f"{name}.3")
    x = norm(x, w["enc_temporal_transformer.norm_out.gamma"], w["enc_temporal_transformer.norm_out.beta"])
    return x.permute(2, 0, 1, 3)


def nearest(codes, tokens):
    unit = codes / codes.norm(dim=1, keepdim=True)
    return codes[torch.stack([(unit @ token).argmax() for token in tokens.flatten(0, -2)])].view(tokens.shape)


def canvas_of(hu_DHW):
    """Window, axes towards (S, L, P), padding on both sides of the depth to 40 voxels."""
    array = np.clip(hu_DHW.numpy().astype(np.float64), -1000, 1000) / 1000
    missing = 40 - len(array)
    array = array.transpose(0, 2, 1)[:, ::-1, ::-1]
    padded = np.pad(array, ((missing // 2, missing - missing // 2), (0, 0), (0, 0)), constant_values=-1)
    return torch.from_numpy(padded)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("depth", [40, 30], ids=["size of the training", "padded"])
def test_features_equal_a_naive_version_on_a_real_ct(published, hu_DHW, depth, tmp_path, record_property):
    hu_DHW = hu_DHW[:depth]
    weights = dict(published[0])
    double = {name: value.double() for name, value in weights.items()}
    tokens = naive_tokens(double, canvas_of(hu_DHW))
    # Codes that are tokens of another length, so that many are used and none is almost as similar as another.
    scale = torch.linspace(0.5, 2.0, CODES, dtype=torch.float64)[:, None]
    codes = tokens.flatten(0, 2)[torch.randperm(64, generator=torch.Generator().manual_seed(3))[:CODES]] * scale
    weights["vq._codebook.embed"] = codes[None].float()
    expected = nearest(codes, tokens)
    assert len(expected.flatten(0, 2).unique(dim=0)) > CODES // 2
    model, found, before = encoder(save(weights, tmp_path / "weights.pt")), [], []
    model.tower.register_forward_hook(lambda module, inputs, output: found.append(output[0].permute(1, 2, 3, 0)))
    model.tower.net.vq["_codebook"].register_forward_pre_hook(lambda module, inputs: before.append(inputs[0][0]))
    volume = hu_DHW[None, None]
    with torch.no_grad():
        patches = model.features(volume, model.token_context(volume, torch.tensor([[3.0, 3.5, 3.5]])))[0]
    record_property("relative difference before the codebook", relative(before[0], tokens))
    record_property("relative difference", relative(found[0], expected))
    assert relative(before[0], tokens) <= 1e-4
    assert relative(found[0], expected) <= 1e-4
    assert relative(found[0].transpose(1, 2), expected) > 0.01
    if depth == 40:  # patches (z, y, x) towards (S, A, R), tokens towards (S, L, P)
        in_order = expected.flip(1, 2).transpose(1, 2).flatten(0, 2)
        assert relative(patches, in_order) <= 1e-4


def test_codes_are_the_most_similar_and_gradients_pass():
    torch.manual_seed(0)
    codebook = Codebook(6, 50)
    codebook.embed.mul_(torch.rand(50, 1) + 0.5)
    tokens = torch.randn(3, 5, 6, requires_grad=True)
    found = codebook(tokens)
    torch.testing.assert_close(found, nearest(codebook.embed[0], tokens))
    found.square().sum().backward()
    torch.testing.assert_close(tokens.grad, 2 * found.detach())


def test_convolutions_stay_local_on_any_grid():
    """Without attention and feed-forward, a patch changes only its neighbours, also where the grid is no cube."""
    torch.manual_seed(0)
    net = CTClipTower(**{**SMALL, "spatial_depth": 1, "temporal_depth": 1}).net
    for layers in (net.enc_spatial_transformer, net.enc_temporal_transformer):
        torch.nn.init.zeros_(layers.layers[0]["1"].to_out.weight)
        torch.nn.init.zeros_(layers.layers[0]["3"][4].weight)
    before = []
    net.vq["_codebook"].register_forward_pre_hook(lambda module, inputs: before.append(inputs[0][0]))
    volume = torch.randn(1, 1, 60, 80, 140)
    other = volume.clone()
    other[0, 0, :10, :20, :20] += torch.randn(10, 20, 20)
    with torch.no_grad():
        net(volume), net(other)
    changed = (before[0] - before[1]).abs().amax(dim=-1) > 1e-6
    assert before[0].shape == (6, 4, 7, WIDTH)
    assert changed[0, 0, 0] and not changed[4:].any() and not changed[:, :, 3:].any()


def test_head_averages_over_depth():
    features = torch.randn(2, WIDTH, 4, 3, 2, generator=torch.Generator().manual_seed(0))
    head = CTClipHead(3 * 2 * WIDTH, 5, bias=False)
    for row, case in zip(head(features), features):
        flat = [case[e, :, y, x].mean() for y in range(3) for x in range(2) for e in range(WIDTH)]
        torch.testing.assert_close(row, head.weight @ torch.stack(flat))


def test_default_is_the_published_layout():
    with torch.device("meta"):
        tower = CTClipTower()
        shapes = layout(512, 8, 32, 8192, depths=(4, 4))
        used = tower.from_published({name: torch.empty(shape) for name, shape in shapes.items()})
    ours = {name: tuple(value.shape) for name, value in tower.net.state_dict().items()}
    assert ours == {name: tuple(value.shape) for name, value in used.items()}


def test_other_files_are_one_message(published, tmp_path):
    weights, path = published
    with pytest.raises(
        CheckpointError, match=r"3 have another shape \(to_patch_emb\.1\.weight.*sizes of backbone\.tower"
    ):
        encoder(path, patch_size=(15, 30, 30))
    with pytest.raises(
        CheckpointError, match=r"missing \(enc_spatial_transformer\.layers\.2\..*checkpoint of CTClipTower"
    ):
        encoder(path, spatial_depth=3)
    with pytest.raises(CheckpointError, match=r"starts with prefix = 'visual\.'; found visual_transformer"):
        encoder(path, prefix="visual.")
    renamed = {name.replace("to_q.", "query."): value for name, value in weights.items()}
    with pytest.raises(CheckpointError, match=r"missing \(.*to_q\.weight.*not in the model \(.*query\.weight"):
        encoder(save(renamed, tmp_path / "renamed.pt"))
