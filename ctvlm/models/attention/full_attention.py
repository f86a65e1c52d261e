"""Attention over all tokens without slice information, as a baseline."""

from __future__ import annotations

from torch import Tensor

from ctvlm.models.attention.augmented_sdpa import augmented_sdpa
from ctvlm.models.attention.base import SelfAttention
from ctvlm.registry import ATTENTION
from ctvlm.structures import TokenContext


@ATTENTION.register_module()
class FullAttention(SelfAttention):
    """Every token attends to every token, without a bias."""

    def attend(self, q_BKNc: Tensor, k_BKNc: Tensor, v_BKNc: Tensor, ctx: TokenContext) -> Tensor:
        return augmented_sdpa(q_BKNc, k_BKNc, v_BKNc, key_mask_BM=ctx.token_mask_BN)
