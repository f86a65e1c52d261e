"""COLIPRI's package does not run with current versions of timm: its tower is compared with a second implementation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from ctvlm.models.backbones import PretrainedTower
from ctvlm.utils.errors import CheckpointError
from ctvlm.volume import read_ct
from projects.colipri.colipri_tower import ColipriTower

ROOT = Path(__file__).resolve().parents[3]
PREFIX = "image_encoder.backbone."
WIDTH, HEADS, DEPTH = 36, 3, 2
SMALL = dict(embed_dims=WIDTH, depth=DEPTH, num_heads=HEADS, img_size=(48, 48, 48))
SPACING = torch.tensor([[2.0, 2.0, 2.0]])


@pytest.fixture(scope="module")
def hu_DHW():
    """A part of a real CT (D, H, W)."""
    folder = Path(os.environ.get("CTVLM_SHARED", ROOT.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real samples at {folder}: set CTVLM_SHARED to their folder")
    ct = read_ct(next((folder / "ct/xcist_chest_siemens").glob("*.nii.gz")))
    return torch.from_numpy(ct.array).float()[:56, 100:388:6, 60:348:6]


def layout(width, depth, patch=8):
    """Names and shapes below ``image_encoder.backbone.``, as published."""
    hidden = int(width * (4 * 2 / 3))
    shapes = {
        "mask_token": (1, 1, width),
        "down_projection.proj.weight": (width, 1, patch, patch, patch),
        "down_projection.proj.bias": (width,),
        "eva.norm.weight": (width,),
        "eva.norm.bias": (width,),
    }
    for i in range(depth):
        block = f"eva.blocks.{i}"
        shapes |= {f"{block}.gamma_1": (width,), f"{block}.gamma_2": (width,), f"{block}.mlp.norm.weight": (hidden,)}
        shapes |= {f"{block}.mlp.norm.bias": (hidden,), f"{block}.attn.k_proj.weight": (width, width)}
        for name in ("norm1", "norm2", "attn.norm"):
            shapes |= {f"{block}.{name}.weight": (width,), f"{block}.{name}.bias": (width,)}
        linear = {f"attn.{name}": (width, width) for name in ("q_proj", "v_proj", "proj")}
        linear |= {"mlp.fc1_g": (hidden, width), "mlp.fc1_x": (hidden, width), "mlp.fc2": (width, hidden)}
        for name, shape in linear.items():
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
    return shapes


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Random weights in the published layout, and their file."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in layout(WIDTH, DEPTH).items()}
    path = tmp_path_factory.mktemp("colipri") / "model.pt"
    others = {"image_encoder.projector.bias": torch.zeros(4), "softmax_temperature": torch.ones(())}
    torch.save({PREFIX + name: value for name, value in weights.items()} | others, path)
    return weights, str(path)


def encoder(path, prefix=PREFIX, **options):
    tower = dict(type="ColipriTower", **{**SMALL, **options})
    return PretrainedTower(tower, pretrained=path, prefix=prefix, patch_size=(8, 8, 8), embed_dims=16).eval()


def norm(x, w, name):
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(var + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x, w, name):
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)


def turned(features_NE, places):
    """Pairs of features, turned by an angle for each axis and frequency: complex numbers times exp(i * angle)."""
    bands = features_NE.shape[1] // 6
    pairs = torch.view_as_complex(features_NE.reshape(len(places), 3 * bands, 2).contiguous())
    angles = [[place[a] * 10000.0 ** (-f / bands) for a in range(3) for f in range(bands)] for place in places]
    turn = torch.polar(torch.ones_like(pairs.real), torch.tensor(angles, dtype=torch.float64))
    return torch.view_as_real(pairs * turn).flatten(1)


def naive(weights, canvas_XYZ):
    """Features (x, y, z, E) in double precision."""
    w = {name: value.double() for name, value in weights.items()}
    grid = tuple(size // 8 for size in canvas_XYZ.shape)
    places = [(a, b, c) for a in range(grid[0]) for b in range(grid[1]) for c in range(grid[2])]
    kernel = w["down_projection.proj.weight"].flatten(1)
    regions = [canvas_XYZ[8 * a : 8 * a + 8, 8 * b : 8 * b + 8, 8 * c : 8 * c + 8].flatten() for a, b, c in places]
    x = torch.stack(regions).double() @ kernel.T + w["down_projection.proj.bias"]
    for i in range(DEPTH):
        block = f"eva.blocks.{i}"
        normed, size, heads = norm(x, w, f"{block}.norm1"), WIDTH // HEADS, []
        q, k, v = (linear(normed, w, f"{block}.attn.{name}_proj") for name in "qkv")
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = turned(q[:, part], places) @ turned(k[:, part], places).T / size**0.5
            heads.append(torch.softmax(scores, dim=1) @ v[:, part])
        attended = linear(norm(torch.cat(heads, dim=1), w, f"{block}.attn.norm"), w, f"{block}.attn.proj")
        x = x + w[f"{block}.gamma_1"] * attended
        normed = norm(x, w, f"{block}.norm2")
        gate = linear(normed, w, f"{block}.mlp.fc1_g")
        hidden = gate / (1 + torch.exp(-gate)) * linear(normed, w, f"{block}.mlp.fc1_x")
        x = x + w[f"{block}.gamma_2"] * linear(norm(hidden, w, f"{block}.mlp.norm"), w, f"{block}.mlp.fc2")
    return norm(x, w, "eva.norm").view(*grid, WIDTH)


def by_torchio(hu_DHW, orientation, sizes):
    """The transforms of COLIPRI's processor on an LPS image of 2 mm."""
    tio = pytest.importorskip("torchio", reason="COLIPRI's processor uses TorchIO")
    affine = torch.diag(torch.tensor([-2.0, -2.0, 2.0, 1.0])).numpy()
    image = tio.ScalarImage(tensor=hu_DHW.permute(2, 1, 0).flip(0, 1)[None], affine=affine)
    steps = [
        tio.ToOrientation(orientation),
        tio.Clamp(-1000, 1000),
        tio.RescaleIntensity((-1, 1), in_min_max=(-1000, 1000)),
        tio.CropOrPad(sizes, padding_mode=-1),
    ]
    return tio.Compose(steps)(image).data[0]


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("orientation", "depth", "canvas"),
    [("SAR", 40, (48, 48, 48)), ("RAS", 40, (48, 48, 48)), ("SAR", 56, (56, 48, 48))],
    ids=["padded", "other orientation", "larger than the training"],
)
def test_features_equal_a_naive_version_on_a_real_ct(published, hu_DHW, orientation, depth, canvas, record_property):
    weights, path = published
    hu_DHW = hu_DHW[:depth]
    expected = naive(weights, by_torchio(hu_DHW, orientation, canvas))
    model, found = encoder(path, orientation=orientation), []
    model.tower.register_forward_hook(lambda module, inputs, output: found.append(output[0].permute(1, 2, 3, 0)))
    volume = hu_DHW[None, None]
    with torch.no_grad():
        tokens = model.features(volume, model.token_context(volume, SPACING))[0]
    difference = relative(found[0], expected)
    record_property("relative difference", difference)
    assert difference <= 1e-4
    assert relative(found[0].transpose(0, 2).flip(0), expected.transpose(0, 2)) > 0.01
    if depth == 56:  # patches of volume and tower are the same
        assert relative(tokens, expected.flatten(0, 2)) <= 1e-4


def test_features_equal_the_network_of_the_package(published):
    primus = pytest.importorskip(
        "dynamic_network_architectures.architectures.primus", reason="needs dynamic-network-architectures"
    )
    try:
        net = primus.Primus(
            1, WIDTH, (8, 8, 8), 1, DEPTH, HEADS, (48, 48, 48), use_abs_pos_embed=False, init_values=0.1,
            scale_attn_inner=True,
        ).eval()  # fmt: skip
    except RuntimeError as error:
        pytest.skip(f"dynamic-network-architectures needs timm < 1.0.23 ({error})")
    net.up_projection = torch.nn.Identity()
    net.load_state_dict(published[0])
    volume = torch.randn(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert relative(encoder(published[1]).tower(volume), net(volume)) <= 1e-4


def test_default_is_the_published_layout():
    with torch.device("meta"):
        ours = ColipriTower().net.state_dict()
    published = {name: shape for name, shape in layout(864, 16).items() if name != "mask_token"}
    assert {name: tuple(value.shape) for name, value in ours.items()} == published


def test_other_files_are_one_message(published, tmp_path):
    weights, path = published
    with pytest.raises(
        CheckpointError, match=r"1 have another shape \(down_projection\.proj.*sizes of backbone\.tower"
    ):
        encoder(path, patch_size=(4, 8, 8))
    with pytest.raises(CheckpointError, match=r"missing \(eva\.blocks\.2\..*checkpoint of ColipriTower"):
        encoder(path, depth=3)
    with pytest.raises(CheckpointError, match=r"starts with prefix = 'backbone\.'; found image_encoder\.backbone"):
        encoder(path, prefix="backbone.")
    renamed = {PREFIX + name.replace("q_proj", "query"): value for name, value in weights.items()}
    torch.save(renamed, tmp_path / "renamed.pt")
    with pytest.raises(CheckpointError, match=r"missing \(.*q_proj\.weight.*not in the model \(.*query\."):
        encoder(str(tmp_path / "renamed.pt"))
    with pytest.raises(ValueError, match=r"embed_dims / num_heads = 8\.0; expected a multiple of 6"):
        ColipriTower(embed_dims=24, num_heads=3)
