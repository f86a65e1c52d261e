"""The checks of model components name what a broken component does wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ctvlm import testing
from ctvlm.models.attention import FullAttention
from ctvlm.models.backbones import ThreeDVisionEncoder
from ctvlm.models.heads.projection import Projection
from ctvlm.models.layers import (
    MLP,
    LearnedPosition3D,
    RotaryPosition3D,
    SinCosPosition3D,
    ThreeDPatchEmbedding,
    ThreeDTransformerBlock,
)
from ctvlm.models.necks import VolumePooling
from ctvlm.models.region_encoders import SoftOverlapRegionEncoder


def broken(base: type, forward) -> type:
    """A subclass whose forward is ``forward(super_forward, *args)``."""

    def new_forward(self, *args, **kwargs):
        return forward(lambda *a, **k: base.forward(self, *a, **k), *args, **kwargs)

    return type(f"Broken{base.__name__}", (base,), {"forward": new_forward})


class IgnoresMask(FullAttention):
    def forward(self, x_BNE, ctx):
        return super().forward(x_BNE, ctx) + x_BNE.mean(dim=1, keepdim=True)


class ReadsOrder(FullAttention):
    def forward(self, x_BNE, ctx):
        mask_BN1 = 1 if ctx.token_mask_BN is None else ctx.token_mask_BN[..., None]
        return super().forward(x_BNE, ctx) + torch.arange(x_BNE.shape[1])[:, None] * mask_BN1


class UnusedParameter(FullAttention):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.unused = nn.Parameter(torch.zeros(1))


class HiddenState(FullAttention):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.offset = torch.rand(1)

    def forward(self, x_BNE, ctx):
        return super().forward(x_BNE, ctx) + self.offset


class TakesFunction(FullAttention):
    def __init__(self, embed_dims, num_heads, function=None):
        super().__init__(embed_dims, num_heads)


def add_batch_mean(forward, x_BNE, ctx):
    return forward(x_BNE, ctx) + x_BNE.mean(dim=0)


def drop_token(forward, x_BNE, ctx):
    return forward(x_BNE, ctx)[:, 1:]


def draw_noise(forward, x_BNE, ctx):
    return forward(x_BNE, ctx) + torch.randn_like(x_BNE)


def work_in_place(forward, x_BNE, ctx):
    return forward(x_BNE.mul_(2), ctx)


def divide_by_zero(forward, x_BNE, ctx):
    return forward(x_BNE, ctx) / (x_BNE.shape[1] - 1)


def use_bfloat16_sums(forward, x_BNE, ctx):
    return forward(x_BNE, ctx) + (1 if torch.is_autocast_enabled("cpu") else 0)


@pytest.mark.parametrize(
    ("attention", "name"),
    [
        (IgnoresMask, "masked tokens"),
        (ReadsOrder, "order of tokens"),
        (UnusedParameter, "gradients"),
        (HiddenState, "state dict"),
        (broken(FullAttention, add_batch_mean), "batch independence"),
        (broken(FullAttention, drop_token), "shape"),
        (broken(FullAttention, draw_noise), "deterministic"),
        (broken(FullAttention, work_in_place), "inputs unchanged"),
        (broken(FullAttention, divide_by_zero), "finite"),
        (broken(FullAttention, use_bfloat16_sums), "bfloat16"),
        (type("NoModule", (), {"__init__": lambda self, **kwargs: None}), "module"),
    ],
)
def test_broken_attention(attention, name):
    with pytest.raises(AssertionError, match=f"{attention.__name__}: property '{name}'"):
        testing.check_attention(attention)


def test_options_must_pickle():
    with pytest.raises(AssertionError, match="property 'picklable config'"):
        testing.check_attention(TakesFunction, function=lambda: None)


def test_class_name_and_config_are_equivalent():
    for component in (FullAttention, "FullAttention", dict(type="FullAttention", num_heads=3)):
        testing.check_attention(component)
    with pytest.raises(AssertionError, match="property 'registered'"):
        testing.check_attention("NoSuchAttention")


class DrawsEachTime(FullAttention):
    """Activation checkpointing runs the forward pass twice and needs the same result."""

    def forward(self, x_BNE, ctx):
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(x_BNE, ctx) * torch.tensor(float(self.calls if self.training else 1))


class AddsMaskedTokens(VolumePooling):
    def forward(self, out):
        return super().forward(out) + out.tokens.mean(dim=1)


class RowsSumToTwo(SoftOverlapRegionEncoder):
    def assign(self, *args, **kwargs):
        encoding = super().assign(*args, **kwargs)
        encoding.assignment = 2 * encoding.assignment
        return encoding


class NeedsMap(SoftOverlapRegionEncoder):
    def assign(self, tokens_BNE, region_map_BDHW, *args, **kwargs):
        if region_map_BDHW is None:
            region_map_BDHW = torch.full((len(tokens_BNE), 4, 12, 8), 1)
        return super().assign(tokens_BNE, region_map_BDHW, *args, **kwargs)


class ReadsNeighbours(ThreeDPatchEmbedding):
    def forward(self, volume_BCDHW):
        tokens_BNE = super().forward(volume_BCDHW)
        return tokens_BNE + 0.1 * tokens_BNE.mean(dim=1, keepdim=True)


class AcceptsAnySize(ThreeDPatchEmbedding):
    def forward(self, volume_BCDHW):
        return self.proj(volume_BCDHW).flatten(2).transpose(1, 2)


class NormUnknown(ThreeDTransformerBlock):
    ends_with_norm = None


class OneCode(SinCosPosition3D):
    def forward(self, grid, like):
        return super().forward(grid, like) * 0


class Unscaled(RotaryPosition3D):
    def forward(self, ctx):
        cos, sin = super().forward(ctx)
        return 2 * cos, sin


class RelativeToCase(RotaryPosition3D):
    """Rotates by the position in the list of tokens instead of the position in the volume."""

    def forward(self, ctx):
        return tuple(part[:, :, :1].expand_as(part).contiguous() * 1 for part in super().forward(ctx))


class FixedGrid(LearnedPosition3D):
    def forward(self, grid, like):
        return self.table.flatten(2).transpose(1, 2)[0]


class MixesVectors(MLP):
    def forward(self, x):
        return super().forward(x) + x.mean(dim=-2, keepdim=True)


class MixesRows(Projection):
    def forward(self, x):
        return super().forward(x) - super().forward(x).mean(dim=-2, keepdim=True)


def other_last_level(forward, *args, **kwargs):
    out = forward(*args, **kwargs)
    out.levels = [level + 1 for level in out.levels]
    return out


def wrong_positions(forward, *args, **kwargs):
    out = forward(*args, **kwargs)
    out.positions = out.positions.flip(-1)
    return out


def fill_masked(forward, *args, **kwargs):
    out = forward(*args, **kwargs)
    out.tokens = out.tokens + (~out.token_mask)[..., None]
    out.levels = [*out.levels[:-1], out.tokens]
    return out


def crop_to_fit(forward, volume_BCDHW, region_map_BDHW=None, spacing_B3=None, anatomy=None):
    return forward(volume_BCDHW, region_map_BDHW, None if spacing_B3 is None else spacing_B3.abs(), anatomy)


@pytest.mark.parametrize(
    ("check", "component", "name", "options"),
    [
        (testing.check_attention, DrawsEachTime, "activation checkpointing", {}),
        (testing.check_neck, AddsMaskedTokens, "masked tokens", {}),
        (testing.check_region_encoder, RowsSumToTwo, "rows sum to 1", {}),
        (testing.check_region_encoder, NeedsMap, "unknown region map", {}),
        (testing.check_patch_embedding, ReadsNeighbours, "own patch only", {}),
        (testing.check_patch_embedding, AcceptsAnySize, "size errors", {}),
        (testing.check_block, NormUnknown, "ends_with_norm", dict(attention=dict(type="FullAttention"))),
        (testing.check_position, OneCode, "distinct", {}),
        (testing.check_position, Unscaled, "unit length", {}),
        (testing.check_position, RelativeToCase, "own position only", {}),
        (testing.check_position, FixedGrid, "shape", {}),
        (testing.check_layer, MixesVectors, "leading dimensions", {}),
        (testing.check_projection, MixesRows, "leading dimensions", {}),
        (testing.check_backbone, broken(ThreeDVisionEncoder, other_last_level), "last level", {}),
        (testing.check_backbone, broken(ThreeDVisionEncoder, wrong_positions), "positions", {}),
        (
            testing.check_backbone,
            broken(ThreeDVisionEncoder, fill_masked),
            "masked tokens",
            dict(token_selection="body"),
        ),
        (testing.check_backbone, broken(ThreeDVisionEncoder, crop_to_fit), "size errors", {}),
    ],
)
def test_broken_component(check, component, name, options):
    with pytest.raises(AssertionError, match=rf"{component.__name__}: property '{name}"):
        check(component, **options)
