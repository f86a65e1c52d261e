"""Cost of encoders."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ctvlm.experiments.benchmark.growth import exponents, fit_exponent, growth_figure, measure_sizes
from ctvlm.experiments.benchmark.measure import Bench, compare, count_flops, peak_growth
from ctvlm.experiments.benchmark.peers import PEERS, literal_memory
from ctvlm.experiments.benchmark.subjects import ModelSize, Subject, backbone_of, build_subject, compiled
from ctvlm.utils import CTVLMError

CPU = torch.device("cpu")
PACKAGES = {"timm-blocks": "timm", "monai-vit": "monai", "swin-unetr": "monai", "spectre": "spectre"}
BACKBONE = dict(
    type="ThreeDVisionEncoder",
    img_size=(8, 32, 32),
    embed_dims=24,
    depth=2,
    num_regions=3,
    patch_embed=dict(type="ThreeDPatchEmbedding", in_channels=3, patch_size=(4, 16, 16)),
    block=dict(num_heads=2, mlp_ratio=2.0),
)
SIZE = ModelSize.of(BACKBONE)


class OneAttention(nn.Module):
    """Attention of the voxels, without weights except for a factor."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, volume_BCDHW):
        x_BKNE = volume_BCDHW.flatten(2)[:, :, :512].reshape(1, 3, 32, 16) * self.factor
        return F.scaled_dot_product_attention(x_BKNE, x_BKNE, x_BKNE)[:, 0]


def test_attention_is_counted():
    """Two products forward (4 N N E per head); five backward."""
    subject = Subject("attention", OneAttention(), False, 3)
    forward = 3 * 4 * 32 * 32 * 16
    assert count_flops(subject, Bench.of(SIZE, 1, CPU)) == forward + forward * 5 // 2


class Allocates(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, volume_BCDHW):
        torch.empty(2**20, dtype=torch.uint8)  # freed at once
        return volume_BCDHW.flatten(2)[:, :, :1].detach() * self.factor


def test_peak_memory_contains_what_is_freed_during_the_pass():
    growth = peak_growth(Subject("x", Allocates(), False, 3), Bench.of(SIZE, 1, CPU))
    assert 2**20 <= growth < 2**20 + 2**14


@pytest.mark.parametrize("name", PEERS)
def test_peers_have_the_size_of_the_encoder(name):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    size = replace(SIZE, volume=(32, 32, 32)) if name == "swin-unetr" else SIZE
    first = build_subject("first", size, BACKBONE)
    costs = compare([first, build_subject(name, size)], Bench.of(size, 1, CPU), 1)
    assert costs[0].time_ratio == costs[0].memory_ratio == 1
    if name != "swin-unetr":  # it has its own size
        assert costs[1].tokens in (costs[0].tokens, costs[0].tokens + 1)  # one class token
    assert costs[1].flops > 0 and costs[1].peak_bytes > 0 and 0 < costs[1].peak_share


@pytest.mark.slow
def test_compiled_encoder_is_measured_beside_its_own_operators():
    first = build_subject("first", SIZE, BACKBONE)
    both = compiled(first)
    inputs = Bench.of(SIZE, 1, CPU)
    costs = compare([first, both], inputs, 1)
    assert costs[1].name == "first, compiled"
    assert costs[1].flops == costs[0].flops and costs[1].parameters == costs[0].parameters
    assert costs[1].first_s > 3 * (costs[1].forward_s + costs[1].backward_s)  # with compilation
    outputs = [subject.run(inputs.volume_BCDHW, inputs.region_map_BDHW)[1] for subject in (first, both)]
    torch.testing.assert_close(*outputs)


def test_missing_package_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.models.vision_transformer", None)
    with pytest.raises(CTVLMError, match="pip install timm"):
        build_subject("timm-blocks", SIZE)


def test_registered_encoder_has_the_size_of_the_default_config():
    assert ModelSize.of(backbone_of("ThreeDVisionEncoder")) == replace(
        ModelSize.of(backbone_of("vit3d_cot_contrastive")), regions=20
    )


def test_number_of_tokens_keeps_the_slices():
    size = SIZE.with_tokens(24)
    assert size.grid == (2, 3, 4)
    with pytest.raises(CTVLMError, match="multiple of 2"):
        SIZE.with_tokens(25)


def test_exponent_of_a_power_law():
    assert fit_exponent([(1, 10), (4, 40), (16, 160)]) == pytest.approx(1)
    assert fit_exponent([(1, 10), (4, 160)]) == pytest.approx(2)


def test_memory_grows_linearly_with_the_tokens():
    costs, _ = measure_sizes({"first": BACKBONE}, [SIZE.with_tokens(n) for n in (256, 1024)], CPU, 1, 1, False)
    assert exponents(costs)["first"]["memory"] < 1.1
    assert [axes.get_xscale() for axes in growth_figure(costs).axes] == ["log", "log"]


def test_body_selection_saves_the_work_of_air():
    selecting = {"all": BACKBONE, "body": {**BACKBONE, "token_selection": "body"}}
    size = SIZE.with_tokens(256)
    flops = {}
    for air in (0.0, 0.5):
        costs, _ = measure_sizes(selecting, [size], CPU, 1, 1, False, air)
        flops[air] = [cost.flops for cost in costs[256]]
    assert flops[0.0][0] == flops[0.0][1] == flops[0.5][0]
    assert flops[0.5][1] < 0.55 * flops[0.0][1]


def test_a_peer_that_does_not_fit_is_a_remark(monkeypatch):
    small, large = SIZE, SIZE.with_tokens(32)
    between = sum(literal_memory(small).values()) + 1
    monkeypatch.setattr("ctvlm.experiments.benchmark.peers.available_memory", lambda device: between)
    costs, remarks = measure_sizes({"first": BACKBONE, "literal": None}, [small, large], CPU, 1, 1, False)
    assert [len(row) for row in costs.values()] == [2, 1]
    assert "GiB" in remarks[0]


def test_memory_of_the_literal_specification():
    """12.9 GB of attention scores per layer and a mask convolution of 51.5 GB at the sizes of the specification."""
    convolution, block, kept = literal_memory(ModelSize.of({})).values()
    assert convolution == pytest.approx(2 * 51.5e9, rel=1e-2)
    assert block == pytest.approx(4 * 12.9e9, rel=1e-2)
    assert kept == pytest.approx(12 * 12.9e9, rel=1e-2)
