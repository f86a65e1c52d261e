"""Convert timm weights to a checkpoint for load_from."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from ctvlm.registry import BACKBONES

TOOL = "model_converters/inflate_timm_vit.py"
NAME = "vit_tiny_patch16_224"
CONFIG = """
_base_ = ['{root}/tests/test_engine/toy_config.py']
model = dict(_delete_=True, backbone=dict(type='ThreeDVisionEncoder', img_size=(8, 32, 32), embed_dims=192, depth=2,
             block=dict(num_heads=3), position='learned'))
"""


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return timm.create_model(NAME, pretrained=False, depth=2)


@pytest.fixture
def config(tmp_path, repo_root):
    path = tmp_path / "config.py"
    path.write_text(CONFIG.format(root=repo_root.as_posix()))
    return path


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped"])
def test_converted_checkpoint_fits_the_encoder(tool, tmp_path, vit, config, kind):
    weights = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(vit.state_dict(), weights)
    else:
        torch.save({"state_dict": vit.state_dict()} if kind == "wrapped" else vit.state_dict(), weights)
    out = tmp_path / "out.pth"
    outcome = tool(TOOL, config, NAME, out, "--weights", weights, "--model-options", "depth=2")
    assert outcome.code == 0, outcome.err
    state = torch.load(out, weights_only=True)["state_dict"]
    encoder = BACKBONES.build(
        dict(
            type="ThreeDVisionEncoder",
            img_size=(8, 32, 32),
            embed_dims=192,
            depth=2,
            block=dict(num_heads=3),
            position="learned",
        )
    )
    _, unexpected = encoder.load_state_dict({k.removeprefix("backbone."): v for k, v in state.items()}, strict=False)
    assert not unexpected
    torch.testing.assert_close(encoder.blocks[1].mlp.fc2.weight, vit.blocks[1].mlp.fc2.weight)
    rows = [line for line in outcome.out.splitlines() if "blocks.*.attention.qkv.weight" in line]
    assert len(rows) == 1 and "2" in rows[0] and f"from {NAME}" in rows[0]
    assert any("slice_bias" in line and "new" in line for line in outcome.out.splitlines())
    assert any("cls_token" in line and "not used" in line for line in outcome.out.splitlines())


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        (NAME, ["--weights", "{tmp}/nowhere.pth"], "nowhere.pth"),
        (NAME, ["--weights", "{tmp}/broken.pth"], "broken.pth"),
        (NAME, ["--weights", "{tmp}/vit.pth"], "120 weights of vit_tiny_patch16_224"),
        ("vit_small_patch16_224", ["--weights", "{tmp}/vit.pth"], "vit_small_patch16_224"),
        ("test_resnet", ["--weights", "{tmp}/vit.pth"], "VisionTransformer"),
        ("vit_typo", ["--weights", "{tmp}/vit.pth"], "vit_typo"),
        (NAME, [], "--weights --pretrained"),
        (NAME, ["--weights", "{tmp}/vit.pth", "--model-options", "depth=2", "--cfg-options",
                "model.backbone.block.num_heads=4"], "num_heads"),
    ],
)  # fmt: skip
def test_errors(tool, tmp_path, vit, config, name, args, message):
    (tmp_path / "broken.pth").write_bytes(b"PK")
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    outcome = tool(TOOL, config, name, tmp_path / "out.pth", *(arg.format(tmp=tmp_path) for arg in args))
    assert outcome.code == 2
    assert message in outcome.err and "Traceback" not in outcome.err
    assert not (tmp_path / "out.pth").exists()
