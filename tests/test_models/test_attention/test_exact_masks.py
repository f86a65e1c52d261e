"""Masked entries weigh exactly 0, whatever the scores; where all are masked, output and gradient are 0."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ctvlm.models.attention import ColumnAttention, FullAttention, SliceAwareAttention, SliceWindowAttention
from ctvlm.models.attention.augmented_sdpa import augmented_sdpa
from ctvlm.models.layers import masked_softmax
from ctvlm.models.losses.functional import attention_focus
from ctvlm.models.necks import RegionPooling, VolumePooling
from ctvlm.models.space import step_attention
from ctvlm.structures import TokenContext
from tests.test_models.component_cases import random_context, random_output

WIDTH, HEADS = 24, 2


def strong(kind, factor=200.0, **kwargs):
    """A layer whose query and key weights are ``factor`` times as large as at the start."""
    torch.manual_seed(0)
    layer = kind(WIDTH, HEADS, **kwargs).double()
    with torch.no_grad():
        torch.nn.init.normal_(layer.qkv.weight, std=WIDTH**-0.5)
        layer.qkv.weight[: 2 * WIDTH] *= factor
        if hasattr(layer, "slice_bias"):
            layer.slice_bias.normal_(std=factor)
    return layer


def context(masked_case: bool = False, dtype=torch.float64) -> TokenContext:
    ctx = random_context(3, (4, 2, 2), padded=True, dtype=dtype)
    mask_BN = torch.ones_like(ctx.index_BN, dtype=torch.bool)
    mask_BN[0, ::2], mask_BN[1, 3:] = False, False
    if masked_case:
        mask_BN[2] = False
    return dataclasses.replace(ctx, token_mask_BN=mask_BN, is_full_grid=False, cache={})


def output_and_gradients(layer, ctx, x_BNE):
    x_BNE = x_BNE.clone().requires_grad_()
    layer.zero_grad()
    out_BNE = layer(x_BNE, ctx)
    weight = torch.randn(out_BNE.shape, generator=torch.Generator().manual_seed(7), dtype=out_BNE.dtype)
    (out_BNE * weight * ctx.token_mask_BN[..., None]).sum().backward()
    return out_BNE.detach()[ctx.token_mask_BN], {"x": x_BNE.grad, **{n: p.grad for n, p in layer.named_parameters()}}


@pytest.mark.parametrize("factor", [1.0, 200.0, 1e4])
def test_augmented_equals_dense_with_large_weights(factor):
    ctx = context()
    x_BNE = torch.randn(*ctx.index_BN.shape, WIDTH, dtype=torch.float64)
    found, dense = (strong(SliceAwareAttention, factor, backend=backend) for backend in ("sdpa", "dense"))
    out, gradients = output_and_gradients(found, ctx, x_BNE)
    expected, expected_gradients = output_and_gradients(dense, ctx, x_BNE)
    # Scores reach factor^2, and with them the rounding of their differences.
    tolerance = 1e-13 * max(1.0, factor**2)
    torch.testing.assert_close(out, expected, rtol=0, atol=tolerance)
    for name, gradient in gradients.items():
        wanted = expected_gradients[name]
        assert (gradient - wanted).norm() <= 1e-6 * wanted.norm() + tolerance, name


@pytest.mark.parametrize("kind", [FullAttention, SliceAwareAttention, SliceWindowAttention, ColumnAttention])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_masked_tokens_have_no_influence(kind, dtype):
    ctx, layer = context(dtype=torch.float32), strong(kind).to(dtype)
    x_BNE = torch.randn(*ctx.index_BN.shape, WIDTH, dtype=dtype)
    noise_BNE = torch.where(ctx.token_mask_BN[..., None], x_BNE, 5 * torch.randn_like(x_BNE))
    with torch.no_grad():
        first, second = (layer(x, ctx)[ctx.token_mask_BN] for x in (x_BNE, noise_BNE))
    assert first.isfinite().all()
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_masked_tokens_have_no_influence_under_autocast(dtype):
    """Rotary positions leave queries in float32, which autocast then narrows."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, HEADS, 16, 8, generator=generator) * 20 for _ in range(3))
    mask_BN = torch.arange(16) % 3 > torch.tensor([[0], [5]])
    noise = torch.where(mask_BN[:, None, :, None], k, 100.0)
    with torch.autocast("cpu", dtype=dtype):
        first, second = (augmented_sdpa(q, keys, v, key_mask_BM=mask_BN) for keys in (k, noise))
    assert torch.equal(first, second)
    assert first[0].isfinite().all() and first[0].any()
    assert not first[1].any(), "a case without any key"


@pytest.mark.parametrize(
    "layer",
    [
        strong(FullAttention),
        strong(SliceAwareAttention),
        strong(SliceAwareAttention, backend="dense"),
        strong(SliceWindowAttention, window=3, shift=1),
    ],
    ids=["full", "sdpa", "dense", "window"],
)
def test_a_case_without_tokens_is_zero_with_finite_gradients(layer):
    ctx = context(masked_case=True)
    x_BNE = torch.randn(*ctx.index_BN.shape, WIDTH, dtype=torch.float64, requires_grad=True)
    attended = layer.attend(*layer.heads(x_BNE, ctx), ctx)
    assert not attended[2].any()
    attended.square().sum().backward()
    assert x_BNE.grad.isfinite().all() and x_BNE.grad[:2].any()
    assert not x_BNE.grad[2].any()
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_equals_dense_with_large_weights_and_without_tokens():
    pytest.importorskip("torch.nn.attention.flex_attention")
    ctx = context(masked_case=True, dtype=torch.float32)
    flex, dense = (strong(SliceAwareAttention, backend=backend).float() for backend in ("flex", "dense"))
    x_BNE = torch.randn(*ctx.index_BN.shape, WIDTH)
    with torch.no_grad():
        found, expected = (layer.attend(*layer.heads(x_BNE, ctx), ctx) for layer in (flex, dense))
    torch.testing.assert_close(found[:2], expected[:2], rtol=1e-3, atol=1e-3)
    assert not found[2].any() and not expected[2].any()


def test_the_mask_needs_no_other_kernel():
    q = torch.randn(2, HEADS, 32, 8)
    mask_BN = torch.arange(32)[None].expand(2, -1) < 20
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        assert augmented_sdpa(q, q, q, key_mask_BM=mask_BN).isfinite().all()


def test_masked_softmax_is_exact_and_zero_where_all_is_masked():
    scores = torch.tensor([[3e4, -3e4, -2e4], [1.0, 2.0, 3.0]], requires_grad=True)
    mask = torch.tensor([[False, True, True], [False, False, False]])
    share = masked_softmax(scores, mask)
    assert share.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    share.square().sum().backward()
    assert scores.grad.isfinite().all()


def test_a_step_whose_patches_are_all_masked_is_zero_with_finite_gradients():
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(2, 3, 8, generator=generator, requires_grad=True)
    patches = torch.randn(2, 5, 8, generator=generator, requires_grad=True)
    mask_BN = torch.tensor([[True, True, False, True, True], [False] * 5])
    attention = step_attention(steps, patches, 10.0, mask_BN)
    torch.testing.assert_close(attention.sum(dim=-1), torch.tensor([[1.0] * 3, [0.0] * 3]))
    assert not attention[:, :, 2][0].any()
    pooled = torch.nn.functional.normalize(attention @ patches, dim=-1)
    pooled.sum().backward()
    assert steps.grad.isfinite().all() and patches.grad.isfinite().all()
    assert steps.grad[0].any() and not steps.grad[1].any()


def test_focus_moves_a_step_that_looks_far_away():
    """Attention below any fixed floor on the place still has the gradient of the cross-entropy: shares minus target."""
    scores = torch.tensor([[[0.0, 40.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[[1.0, 0.0, 0.0]]], dtype=torch.float64)
    total, count = attention_focus(scores.softmax(dim=-1), target)
    total.backward()
    assert count == 1
    assert float(total.detach()) == pytest.approx(40.0)
    torch.testing.assert_close(scores.grad, scores.detach().softmax(dim=-1) - target)


def test_region_pooling_does_not_depend_on_scores_outside_the_region():
    """A patch of another region with a much higher score must not push a region's weights below the floor."""
    out = random_output(2, (2, 3, 2), dtype=torch.float64)
    out.token_mask[:] = True
    out.patch_to_region[:] = torch.nn.functional.one_hot(torch.arange(12) % 4, 6).double()
    neck = RegionPooling(WIDTH, "attention").double()
    with torch.no_grad():
        neck.score.weight.normal_().mul_(200)
    pooled, _ = neck(out)
    for b in range(2):
        for r in (1, 2, 3):
            inside = out.patch_to_region[b, :, r] > 0
            share = neck.score(out.tokens[b][inside])[:, 0].softmax(dim=0)
            expected = share @ out.tokens[b][inside] + out.region_tokens[b, r - 1]
            torch.testing.assert_close(pooled[b, r - 1], expected)


@pytest.mark.parametrize("mode", ["mean", "attention"])
def test_pooling_without_patches_is_finite(mode):
    out = random_output(2, (2, 3, 2), dtype=torch.float64)
    out.token_mask[0], out.token_mask[1] = False, True
    out.tokens.requires_grad_()
    neck = VolumePooling(WIDTH, mode, num_heads=2).double()
    assert not neck.patch_shares(out)[0].any()
    neck(out).sum().backward()
    assert out.tokens.grad.isfinite().all()
    assert not out.tokens.grad[0].any() and out.tokens.grad[1].any()
