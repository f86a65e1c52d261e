"""One feature per volume."""

from __future__ import annotations

import torch
import torch.nn as nn
from timm.layers import trunc_normal_
from torch import Tensor

from ctvlm.models.layers import check_choice, init_vit
from ctvlm.registry import NECKS
from ctvlm.structures import EncoderOutput

MODES = ("mean", "attention")


@NECKS.register_module()
class GlobalPooling(nn.Module):
    """Pool the patches that took part: (B, E).

    Args:
        mode: ``'mean'``, or ``'attention'``: a learned query attends to the patches with ``num_heads`` heads
            (needs ``in_dims``).
    """

    def __init__(self, in_dims: int | None = None, mode: str = "mean", num_heads: int = 4) -> None:
        super().__init__()
        check_choice("GlobalPooling", "mode", mode, MODES)
        self.mode = mode
        if mode == "attention":
            if in_dims is None or in_dims % num_heads:
                raise ValueError(
                    f"GlobalPooling(mode='attention'): in_dims = {in_dims}; expected the tokens' width, a multiple of "
                    f"num_heads = {num_heads}"
                )
            self.num_heads = num_heads
            self.kv = nn.Linear(in_dims, 2 * in_dims)
            self.proj = nn.Linear(in_dims, in_dims)
            self.apply(init_vit)
            self.query = nn.Parameter(torch.zeros(num_heads, in_dims // num_heads))
            trunc_normal_(self.query, std=0.02)

    def forward(self, out: EncoderOutput) -> Tensor:
        if self.mode == "mean":
            weight_BN = out.token_mask.to(out.tokens.dtype)
            weight_BN = weight_BN / weight_BN.sum(dim=1, keepdim=True)
            return (weight_BN[:, None] @ out.tokens)[:, 0]
        batch, num_tokens, width = out.tokens.shape
        kv = self.kv(out.tokens).view(batch, num_tokens, 2, self.num_heads, -1)
        k_BNKc, v_BNKc = kv.unbind(2)
        score_BNK = (k_BNKc * self.query.to(k_BNKc.dtype)).sum(dim=-1) * k_BNKc.shape[-1] ** -0.5
        score_BNK = score_BNK.to(torch.promote_types(score_BNK.dtype, torch.float32))
        score_BNK = score_BNK.masked_fill(~out.token_mask[..., None], float("-inf"))
        share_BNK1 = score_BNK.softmax(dim=1).to(v_BNKc.dtype)[..., None]
        return self.proj((share_BNK1 * v_BNKc).sum(dim=1).reshape(batch, width))
