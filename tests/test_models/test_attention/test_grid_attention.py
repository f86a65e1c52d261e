"""Windows and columns: equal to full attention under the mask that says who may see whom."""

import pytest
import torch
import torch.nn.functional as F

from ctvlm.models.attention import AxialAttention, ColumnAttention, SliceWindowAttention
from tests.test_models.component_cases import random_context


def masked_attention(layer, x_BNE, ctx, may_see):
    batch, tokens, width = x_BNE.shape
    qkv = layer.qkv(x_BNE).view(batch, tokens, 3, layer.num_heads, layer.head_dims)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    z, y, x = ctx.zyx_BN3.unbind(-1)
    allowed_BNN = may_see(z[:, :, None], z[:, None]) if may_see else None
    if allowed_BNN is None:
        allowed_BNN = (y[:, :, None] == y[:, None]) & (x[:, :, None] == x[:, None])
    if ctx.token_mask_BN is not None:
        allowed_BNN = allowed_BNN & ctx.token_mask_BN[:, None]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed_BNN[:, None])
    return layer.proj(out.transpose(1, 2).reshape(batch, tokens, width))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    ("make", "may_see"),
    [
        (lambda: SliceWindowAttention(24, 2), lambda a, b: a == b),
        (lambda: SliceWindowAttention(24, 2, window=2), lambda a, b: a // 2 == b // 2),
        (lambda: SliceWindowAttention(24, 2, window=3, shift=2), lambda a, b: (a + 2) // 3 == (b + 2) // 3),
        (lambda: ColumnAttention(24, 2), None),
    ],
    ids=["slice", "two-slices", "shifted", "column"],
)
def test_equals_masked_full_attention(make, may_see, padded):
    torch.manual_seed(0)
    layer = make().double()
    ctx = random_context(2, (5, 2, 3), padded=padded, dtype=torch.float64)
    x_BNE = torch.randn(*ctx.index_BN.shape, 24, dtype=torch.float64)
    kept = slice(None) if ctx.token_mask_BN is None else ctx.token_mask_BN
    torch.testing.assert_close(layer(x_BNE, ctx)[kept], masked_attention(layer, x_BNE, ctx, may_see)[kept])


def test_axial_reaches_every_patch_in_two_steps():
    torch.manual_seed(0)
    layer = AxialAttention(24, 2).double()
    ctx = random_context(1, (3, 2, 2), dtype=torch.float64)
    x_BNE = torch.randn(1, 12, 24, dtype=torch.float64, requires_grad=True)
    layer(x_BNE, ctx)[0, 0].sum().backward()
    assert (x_BNE.grad.abs().sum(dim=-1) > 0).all()


def test_slices_do_not_mix():
    torch.manual_seed(0)
    ctx = random_context(1, (3, 2, 2), dtype=torch.float64)
    x_BNE = torch.randn(1, 12, 24, dtype=torch.float64, requires_grad=True)
    SliceWindowAttention(24, 2).double()(x_BNE, ctx)[0, :4].sum().backward()
    assert not x_BNE.grad[0, 4:].any()


def test_refuses_a_shift_beyond_the_window():
    with pytest.raises(ValueError, match="shift = 2"):
        SliceWindowAttention(24, 2, window=2, shift=2)
