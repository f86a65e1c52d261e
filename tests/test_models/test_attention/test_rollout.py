"""Rollout equals the product of the dense attention matrices, and leaves the model as it was."""

import pytest
import torch
from torch import nn

from ctvlm.models.attention import AxialAttention, FullAttention, SliceAwareAttention, SliceWindowAttention
from ctvlm.models.attention.rollout import AttentionRecorder
from ctvlm.registry import BACKBONES
from tests.test_models.component_cases import random_context


class Stack(nn.Module):
    """Residual blocks of attention alone."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x_BNE, ctx):
        for layer in self.layers:
            x_BNE = x_BNE + layer(x_BNE, ctx)
        return x_BNE


def matrix(layer, x_BNE, ctx, allowed_BNN, bias=True):
    """Attention (B, N, N) as it is written, mean over heads."""
    batch, tokens, _ = x_BNE.shape
    qkv = layer.qkv(x_BNE).view(batch, tokens, 3, layer.num_heads, layer.head_dims)
    q, k, _ = qkv.permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / layer.head_dims**0.5
    if bias:
        z = ctx.zyx_BN3[..., 0]
        distance = (z[:, :, None] - z[:, None]).abs().clamp(max=layer.slice_bias.shape[1] - 1)
        scores = scores + layer.slice_bias[:, distance].transpose(0, 1)
    if ctx.token_mask_BN is not None:
        allowed_BNN = allowed_BNN & ctx.token_mask_BN[:, None]
    return scores.masked_fill(~allowed_BNN[:, None], float("-inf")).softmax(dim=-1).nan_to_num().mean(dim=1)


@pytest.mark.parametrize("padded", [False, True])
def test_equals_the_product_of_dense_matrices(padded):
    torch.manual_seed(0)
    ctx = random_context(2, (3, 2, 3), padded=padded, dtype=torch.float64)
    axial = AxialAttention(24, 2)
    layers = [SliceAwareAttention(24, 2), FullAttention(24, 2), SliceWindowAttention(24, 2, window=2, shift=1), axial]
    stack = Stack(*layers).double().requires_grad_(False)
    nn.init.normal_(stack.layers[0].slice_bias)
    x_BNE = torch.randn(*ctx.index_BN.shape, 24, dtype=torch.float64)
    readout_BN = torch.rand(2, ctx.num_cells, dtype=torch.float64)

    with AttentionRecorder(stack) as recorder:
        stack(x_BNE, ctx)
    found_BN = recorder.rollout(readout_BN)

    z, y, x = ctx.zyx_BN3.unbind(-1)
    everywhere = torch.ones(2, *[x_BNE.shape[1]] * 2, dtype=torch.bool)
    window = (z[:, :, None] + 1) // 2 == (z[:, None] + 1) // 2
    column = (y[:, :, None] == y[:, None]) & (x[:, :, None] == x[:, None])
    plan = [
        (layers[0], everywhere, True),
        (layers[1], everywhere, False),
        (layers[2], window, False),
        (axial.in_slice, z[:, :, None] == z[:, None], False),
        (axial.along_z, column, False),
    ]
    inputs, stream = [], x_BNE
    for layer in layers[:3]:
        inputs.append(stream)
        stream = stream + layer(stream, ctx)
    inputs += [stream, axial.norm(stream + axial.in_slice(stream, ctx))]
    product = torch.eye(x_BNE.shape[1], dtype=torch.float64).expand(2, -1, -1)
    for (layer, allowed, bias), read in zip(plan, inputs, strict=True):
        product = (0.5 * matrix(layer, read, ctx, allowed, bias) + 0.5 * torch.eye(x_BNE.shape[1])) @ product
    start = readout_BN.gather(1, ctx.index_BN)
    kept = torch.ones_like(start) if ctx.token_mask_BN is None else ctx.token_mask_BN
    expected = ((start * kept)[:, None] @ product)[:, 0]
    torch.testing.assert_close(found_BN.gather(1, ctx.index_BN) * kept, expected * kept)
    torch.testing.assert_close(found_BN.sum(dim=1), (start * kept).sum(dim=1))


def test_recording_does_not_change_the_output_and_air_has_no_weight():
    torch.manual_seed(0)
    encoder = BACKBONES.build(
        dict(type="ThreeDVisionEncoder", embed_dims=24, depth=3, block=dict(num_heads=2), token_selection="body")
    ).eval()
    volume = torch.zeros(2, 3, 16, 64, 64)
    volume[:, :, :, 10:50, 20:60] = torch.rand(2, 3, 16, 40, 40)
    before = encoder(volume)
    with AttentionRecorder(encoder) as recorder, torch.no_grad():
        out = encoder(volume)
    torch.testing.assert_close(out.tokens, before.tokens, rtol=0, atol=0)
    assert not any(module._forward_pre_hooks for module in encoder.modules())
    share_BN = recorder.rollout(out.token_mask / out.token_mask.sum(dim=1, keepdim=True))
    torch.testing.assert_close(share_BN.sum(dim=1), torch.ones(2))
    assert not share_BN[~out.token_mask].any() and (share_BN[out.token_mask] > 0).all()
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_refuses_a_network_without_self_attention():
    with pytest.raises(ValueError, match="Linear.*SelfAttention"), AttentionRecorder(nn.Linear(2, 2)) as _:
        pass
