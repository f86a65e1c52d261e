"""From a file of timm's weights to a checkpoint that training starts from."""

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
def test_writes_what_an_encoder_loads_and_says_what_matched(tool, tmp_path, vit, config, kind):
    weights = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(vit.state_dict(), weights)
    else:
        torch.save({"state_dict": vit.state_dict()} if kind == "wrapped" else vit.state_dict(), weights)
    out = tmp_path / "out.pth"
    done = tool(TOOL, config, NAME, out, "--weights", weights, "--model-options", "depth=2")
    assert done.code == 0, done.err
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
    rows = [line for line in done.out.splitlines() if "blocks.*.attention.qkv.weight" in line]
    assert len(rows) == 1 and "2" in rows[0] and f"from {NAME}" in rows[0]
    assert any("slice_bias" in line and "new" in line for line in done.out.splitlines())
    assert any("cls_token" in line and "left behind" in line for line in done.out.splitlines())


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        (NAME, ["--weights", "{tmp}/nowhere.pth"], "weights not found"),
        (NAME, ["--weights", "{tmp}/broken.pth"], "no weights for vit_tiny"),
        (NAME, ["--weights", "{tmp}/vit.pth"], "lacks 120 weights of vit_tiny_patch16_224"),
        ("vit_small_patch16_224", ["--weights", "{tmp}/vit.pth"], "no weights for vit_small"),
        ("test_resnet", ["--weights", "{tmp}/vit.pth"], "is no VisionTransformer"),
        ("vit_typo", ["--weights", "{tmp}/vit.pth"], "no weights for vit_typo"),
        (NAME, [], "one of the arguments --weights --pretrained is required"),
        (NAME, ["--weights", "{tmp}/vit.pth", "--model-options", "depth=2", "--cfg-options",
                "model.backbone.block.num_heads=4"], "block.num_heads=3 (it has 4)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_words(tool, tmp_path, vit, config, name, args, message):
    (tmp_path / "broken.pth").write_bytes(b"PK")
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    done = tool(TOOL, config, name, tmp_path / "out.pth", *(arg.format(tmp=tmp_path) for arg in args))
    assert done.code == 2
    assert message in done.err and "Traceback" not in done.err
    assert not (tmp_path / "out.pth").exists()
