"""The slice bias: equal to the formula as written, in output and in every gradient."""

import math

import pytest
import torch

from ctvlm.models.attention import FullAttention, SliceAwareAttention
from ctvlm.structures import TokenContext
from tests.test_models.component_cases import random_context


def naive(layer, x_BNE, ctx):
    """The spec's formula with the bias of shape (B, K, N, N), one pair of tokens at a time."""
    batch, tokens, width = x_BNE.shape
    heads, c = layer.num_heads, layer.head_dims
    q, k, v = layer.qkv(x_BNE).split(width, dim=-1)
    last = layer.slice_bias.shape[1] - 1
    rows = []
    for b in range(batch):
        seen = [j for j in range(tokens) if ctx.token_mask_BN is None or ctx.token_mask_BN[b, j]]
        for i in range(tokens):
            mixed = []
            for n in range(heads):
                part = slice(n * c, (n + 1) * c)
                scores = []
                for j in seen:
                    steps = abs(int(ctx.z_BN[b, i]) - int(ctx.z_BN[b, j]))
                    if layer.distance_unit == "slices":
                        bias = layer.slice_bias[n, min(steps, last)]
                    else:
                        entry = min(steps * float(ctx.spacing_B3[b, 0]) / layer.mm_per_entry, last)
                        low = min(math.floor(entry), last - 1)
                        near, far = layer.slice_bias[n, low], layer.slice_bias[n, low + 1]
                        bias = near * (low + 1 - entry) + far * (entry - low)
                    scores.append((q[b, i, part] * k[b, j, part]).sum() / math.sqrt(c) + bias)
                share = torch.stack(scores).softmax(dim=0)
                mixed.append(sum(s * v[b, j, part] for s, j in zip(share, seen)))
            rows.append(layer.proj(torch.cat(mixed)))
    return torch.stack(rows).view(batch, tokens, width)


def layer_of(width=24, heads=2, dtype=torch.float64, **kwargs):
    torch.manual_seed(0)
    layer = SliceAwareAttention(width, heads, **kwargs).to(dtype)
    # Large enough that a wrong bias cannot hide below the tolerance.
    torch.nn.init.normal_(layer.slice_bias, std=1.0)
    return layer


def run(function, layer, x_BNE, mask_BN=None):
    """Output and gradients; padding rows are left out of the loss."""
    x_BNE = x_BNE.clone().requires_grad_()
    layer.zero_grad()
    out_BNE = function(x_BNE)
    weight = torch.randn(out_BNE.shape, generator=torch.Generator().manual_seed(7), dtype=out_BNE.dtype)
    if mask_BN is not None:
        weight = weight * mask_BN[..., None]
        out_BNE = out_BNE * mask_BN[..., None]
    (out_BNE * weight).sum().backward()
    return out_BNE.detach(), {"x": x_BNE.grad, **{n: p.grad.clone() for n, p in layer.named_parameters()}}


@pytest.mark.parametrize("backend", ["sdpa", "dense"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("unit", ["slices", "mm"])
@pytest.mark.parametrize("max_distance", [3, 64])
def test_equals_the_formula_pair_by_pair(backend, padded, unit, max_distance):
    layer = layer_of(backend=backend, distance_unit=unit, max_distance=max_distance, mm_per_entry=3.0)
    ctx = random_context(2, (5, 1, 2), padded=padded, dtype=torch.float64)
    x_BNE = torch.randn(*ctx.index_BN.shape, 24, dtype=torch.float64)
    out, grads = run(lambda x: layer(x, ctx), layer, x_BNE, ctx.token_mask_BN)
    expected, expected_grads = run(lambda x: naive(layer, x, ctx), layer, x_BNE, ctx.token_mask_BN)
    torch.testing.assert_close(out, expected)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected_grads[name], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("unit", ["slices", "mm"])
def test_fused_equals_dense_in_float32(padded, unit):
    """The tolerances of the contract: 1e-5 in the output, 1e-4 relative in every gradient."""
    fused = layer_of(192, 3, torch.float32, distance_unit=unit)
    dense = layer_of(192, 3, torch.float32, distance_unit=unit, backend="dense")
    ctx = random_context(2, (8, 6, 6), padded=padded)
    x_BNE = torch.randn(*ctx.index_BN.shape, 192)
    out, grads = run(lambda x: fused(x, ctx), fused, x_BNE, ctx.token_mask_BN)
    expected, expected_grads = run(lambda x: dense(x, ctx), dense, x_BNE, ctx.token_mask_BN)
    assert (out - expected).abs().max() <= 1e-5
    for name, grad in grads.items():
        wanted = expected_grads[name]
        assert (grad - wanted).norm() <= 1e-4 * wanted.norm(), name


def test_a_constant_bias_changes_nothing():
    layer = layer_of()
    plain = FullAttention(24, 2).double()
    plain.load_state_dict(layer.state_dict(), strict=False)
    torch.nn.init.constant_(layer.slice_bias, 3.0)
    ctx = random_context(2, (4, 2, 2), dtype=torch.float64)
    x_BNE = torch.randn(2, 16, 24, dtype=torch.float64)
    torch.testing.assert_close(layer(x_BNE, ctx), plain(x_BNE, ctx))


def test_mm_reads_each_sample_by_its_own_spacing():
    layer = layer_of(distance_unit="mm", mm_per_entry=5.0)
    spacing = torch.tensor([[5.0, 1, 1], [10.0, 1, 1]])
    bias_BKdd = layer.bias_matrix(TokenContext.full(2, (3, 1, 1), spacing))
    table = layer.slice_bias
    torch.testing.assert_close(bias_BKdd[0, :, 0, 2], table[:, 2])
    torch.testing.assert_close(bias_BKdd[1, :, 0, 2], table[:, 4])
    torch.testing.assert_close(bias_BKdd[1, :, 2, 1], table[:, 2])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_equals_dense_and_says_where_it_cannot_train():
    pytest.importorskip("torch.nn.attention.flex_attention")
    flex, dense = (layer_of(backend=backend, dtype=torch.float32) for backend in ("flex", "dense"))
    ctx = random_context(2, (3, 2, 2), padded=True)
    x_BNE = torch.randn(*ctx.index_BN.shape, 24)
    kept = ctx.token_mask_BN
    with torch.no_grad():
        torch.testing.assert_close(flex(x_BNE, ctx)[kept], dense(x_BNE, ctx)[kept])
    with pytest.raises(ValueError, match="backend='sdpa'"):
        flex(x_BNE, ctx)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention trains on CUDA only")
def test_flex_equals_dense_in_every_gradient_on_cuda():
    flex, dense = (layer_of(128, 2, torch.float32, backend=backend).cuda() for backend in ("flex", "dense"))
    ctx = TokenContext.full(2, (4, 8, 8), torch.ones(2, 3, device="cuda"))
    x_BNE = torch.randn(2, 256, 128, device="cuda")
    for layer in (flex, dense):
        layer(x_BNE, ctx).square().sum().backward()
    for (name, a), b in zip(flex.named_parameters(), dense.parameters()):
        assert (a.grad - b.grad).norm() <= 1e-2 * b.grad.norm(), name


@pytest.mark.parametrize("wrong", [dict(backend="magic"), dict(distance_unit="cm"), dict(max_distance=1)])
def test_refuses_settings_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SliceAwareAttention(24, 2, **wrong)


def test_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="embed_dims = 24.*num_heads = 5"):
        SliceAwareAttention(24, 5)
