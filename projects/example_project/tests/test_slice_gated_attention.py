from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ctvlm.engine import CTVLMRunner, drop_validation, load_config
from ctvlm.models.attention import FullAttention
from ctvlm.registry import ATTENTION, BACKBONES
from ctvlm.structures import TokenContext
from ctvlm.testing import check_attention
from projects.example_project.slice_gated_attention import SliceGatedAttention

CONFIG = Path(__file__).parents[1] / "configs" / "vit3d_slice_gated_phantom.py"
GRID = (3, 2, 2)


@pytest.fixture
def layer():
    torch.manual_seed(0)
    layer = ATTENTION.build({"type": "SliceGatedAttention", "embed_dims": 8, "num_heads": 2})
    torch.nn.init.normal_(layer.gate.weight)
    return layer


def test_open_gates_give_full_attention(layer):
    full = FullAttention(8, 2)
    full.load_state_dict(layer.state_dict(), strict=False)
    torch.nn.init.zeros_(layer.gate.weight)
    torch.nn.init.constant_(layer.gate.bias, 50.0)
    x, ctx = torch.randn(2, 12, 8), TokenContext.full(2, GRID, torch.ones(2, 3))
    torch.testing.assert_close(layer(x, ctx), full(x, ctx))


def test_gate_is_shared_within_a_slice_and_differs_between_slices(layer):
    x, ctx = torch.randn(1, 12, 8), TokenContext.full(1, GRID, torch.ones(1, 3))
    gate_NE = layer(x, ctx)[0] / FullAttention.forward(layer, x, ctx)[0]
    for z in range(3):
        torch.testing.assert_close(gate_NE[4 * z : 4 * z + 4], gate_NE[4 * z].expand(4, 8), rtol=1e-3, atol=1e-4)
    assert (gate_NE[0] - gate_NE[4]).abs().max() > 0.01


def test_contract():
    check_attention("SliceGatedAttention")


def test_config_uses_the_layer_in_every_block():
    backbone = load_config(CONFIG).model.backbone
    blocks = BACKBONES.build(backbone).blocks
    assert len(blocks) == backbone.depth
    assert all(isinstance(block.attention, SliceGatedAttention) for block in blocks)


def test_config_trains(tmp_path):
    cfg = load_config(
        CONFIG,
        {
            "work_dir": str(tmp_path),
            "train_dataloader.dataset.num_cases": 4,
            "train_dataloader.dataset.shape": (8, 32, 32),
            "train_dataloader.batch_size": 2,
            "train_cfg.max_epochs": 1,
            "model.backbone.depth": 2,
        },
    )
    drop_validation(cfg)
    model = CTVLMRunner.from_cfg(cfg).train()
    gate = model.backbone.blocks[0].attention.gate.weight
    assert gate.abs().sum() > 0  # zero before training
