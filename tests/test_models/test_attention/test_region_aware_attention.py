"""Attention to regions: the corrected and the literal form equal the formula as written."""

import math

import pytest
import torch

from ctvlm.models.attention import LiteralRegionAwareAttention, RegionAwareAttention
from ctvlm.structures import TokenContext
from tests.test_models.component_cases import random_context


def naive(layer, x_BNE, ctx):
    heads, c = layer.num_heads, layer.head_dims
    width = x_BNE.shape[-1]
    rows = []
    for b in range(len(x_BNE)):
        regions, assignment = ctx.region_tokens_BRE[b], ctx.patch_to_region_BNR1[b]
        corrected = isinstance(layer, RegionAwareAttention)
        if corrected:
            regions = layer.norm_regions(torch.cat([layer.background[0], regions]))
        else:
            assignment = assignment[:, 1:]
        k, v = layer.kv(regions).split(width, dim=-1)
        for i in range(x_BNE.shape[1]):
            q, mixed = layer.q(x_BNE[b, i]), []
            for n in range(heads):
                part = slice(n * c, (n + 1) * c)
                scores = []
                for r in range(len(regions)):
                    score = (q[part] * k[r, part]).sum() / math.sqrt(c)
                    a = assignment[i, r]
                    scores.append(score + torch.log(a + layer.eps) if corrected else score * a)
                share = torch.stack(scores).softmax(dim=0)
                mixed.append(sum(s * v[r, part] for r, s in enumerate(share)))
            rows.append(layer.proj(torch.cat(mixed)))
    return torch.stack(rows).view_as(x_BNE)


@pytest.mark.parametrize("form", [RegionAwareAttention, LiteralRegionAwareAttention])
def test_equals_the_formula_patch_by_patch(form):
    torch.manual_seed(0)
    layer = form(24, 2).double()
    ctx = random_context(2, (2, 2, 1), dtype=torch.float64)
    leaves = [ctx.patch_to_region_BNR1.requires_grad_(), ctx.region_tokens_BRE.requires_grad_()]
    x_BNE = torch.randn(2, 4, 24, dtype=torch.float64, requires_grad=True)
    leaves += [x_BNE, *layer.parameters()]
    weight = torch.randn(2, 4, 24, dtype=torch.float64)
    outputs = [layer(x_BNE, ctx), naive(layer, x_BNE, ctx)]
    torch.testing.assert_close(*outputs)
    for a, b in zip(*(torch.autograd.grad((out * weight).sum(), leaves) for out in outputs)):
        torch.testing.assert_close(a, b)


def test_a_patch_reads_the_region_it_lies_in():
    """With eps near 0 a patch wholly in region r sees r only, and a patch in no region sees the background only."""
    torch.manual_seed(0)
    layer = RegionAwareAttention(24, 2, eps=1e-12).double()
    assignment = torch.eye(3, dtype=torch.float64)[None]
    regions = torch.randn(1, 2, 24, dtype=torch.float64)
    ctx = TokenContext.full(1, (1, 1, 3), torch.ones(1, 3)).with_regions(assignment, regions)
    out = layer(torch.randn(1, 3, 24, dtype=torch.float64), ctx)
    tokens = torch.cat([layer.background[0], regions[0]])
    values = layer.kv(layer.norm_regions(tokens))[:, 24:]
    torch.testing.assert_close(out[0], layer.proj(values), atol=1e-8, rtol=1e-6)


def test_says_what_is_missing_without_regions():
    ctx = TokenContext.full(1, (1, 1, 3), torch.ones(1, 3))
    with pytest.raises(ValueError, match="region_attention=None"):
        RegionAwareAttention(24, 2)(torch.randn(1, 3, 24), ctx)
