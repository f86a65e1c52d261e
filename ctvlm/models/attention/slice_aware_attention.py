"""Attention with a learned bias for the distance between slices."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from ctvlm.models.attention.augmented_sdpa import augmented_sdpa
from ctvlm.models.attention.base import SelfAttention
from ctvlm.models.attention.flex import flex_slice_attention
from ctvlm.models.layers import masked_softmax
from ctvlm.registry import ATTENTION
from ctvlm.structures import TokenContext
from ctvlm.utils import check_choice

BACKENDS = ("sdpa", "dense", "flex")
UNITS = ("slices", "mm")


@ATTENTION.register_module()
class SliceAwareAttention(SelfAttention):
    """Scores get ``slice_bias[head, |z_i - z_j|]`` added before the softmax.

    The bias depends on two slice indices only. With d slices it is the product of d query columns (the row of the
    query's slice in the d x d bias matrix) and a one-hot of the key's slice. The fused kernel computes it in O(N)
    memory, see ``augmented_sdpa``.

    Args:
        max_distance: length of the bias table; larger distances use its last entry.
        distance_unit: ``'slices'``: slices of the patch grid. ``'mm'``: the table has one entry per ``mm_per_entry``
            and is interpolated linearly at the distance in mm, by the spacing of each sample.
        backend: ``'sdpa'``; ``'dense'`` computes the (B, K, N, N) scores (reference, small N only); ``'flex'`` uses
            FlexAttention.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        max_distance: int = 64,
        distance_unit: str = "slices",
        mm_per_entry: float = 5.0,
        backend: str = "sdpa",
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(embed_dims, num_heads, qkv_bias)
        check_choice("SliceAwareAttention", "backend", backend, BACKENDS)
        check_choice("SliceAwareAttention", "distance_unit", distance_unit, UNITS)
        if max_distance < 2 or mm_per_entry <= 0:
            raise ValueError(
                f"SliceAwareAttention: max_distance = {max_distance} and mm_per_entry = {mm_per_entry}; "
                "expected at least 2 entries of more than 0 mm"
            )
        self.backend = backend
        self.distance_unit = distance_unit
        self.mm_per_entry = mm_per_entry
        self.slice_bias = nn.Parameter(torch.zeros(num_heads, max_distance))
        nn.init.trunc_normal_(self.slice_bias, std=0.02)

    def bias_matrix(self, ctx: TokenContext) -> Tensor:
        """Bias between slices, (1, K, d, d) for slices or (B, K, d, d) for mm."""
        z = torch.arange(ctx.grid[0], device=self.slice_bias.device)
        steps_dd = (z[:, None] - z[None, :]).abs()
        last = self.slice_bias.shape[1] - 1
        if self.distance_unit == "slices":
            return self.slice_bias[:, steps_dd.clamp(max=last)][None]
        entry_Bdd = steps_dd * (ctx.spacing_B3[:, 0] / self.mm_per_entry)[:, None, None]
        entry_Bdd = entry_Bdd.clamp(max=last)
        low_Bdd = entry_Bdd.floor().long().clamp(max=last - 1)
        share_Bdd = (entry_Bdd - low_Bdd).to(self.slice_bias.dtype)
        bias_KBdd = self.slice_bias[:, low_Bdd] * (1 - share_Bdd) + self.slice_bias[:, low_Bdd + 1] * share_Bdd
        return bias_KBdd.transpose(0, 1)

    def attend(self, q_BKNc: Tensor, k_BKNc: Tensor, v_BKNc: Tensor, ctx: TokenContext) -> Tensor:
        bias_BKdd = self.bias_matrix(ctx)
        if self.backend == "dense":
            return self._dense(q_BKNc, k_BKNc, v_BKNc, bias_BKdd, ctx)
        if self.backend == "flex":
            return flex_slice_attention(q_BKNc, k_BKNc, v_BKNc, bias_BKdd, ctx)
        onehot_B1Nd = ctx.z_onehot_BNd(q_BKNc.dtype)[:, None]
        return augmented_sdpa(
            q_BKNc, k_BKNc, v_BKNc, self._rows(bias_BKdd, ctx), onehot_B1Nd, key_mask_BM=ctx.token_mask_BN
        )

    def _rows(self, bias_BKdd: Tensor, ctx: TokenContext) -> Tensor:
        """Row of the bias matrix for the slice of each token (B or 1, K, N, d)."""
        batch, heads, d, _ = bias_BKdd.shape
        if ctx.is_full_grid:
            in_slice = ctx.grid[1] * ctx.grid[2]
            return bias_BKdd[:, :, :, None].expand(batch, heads, d, in_slice, d).reshape(batch, heads, -1, d)
        # A product with the one-hot, because the gradient of an index is a slow scatter.
        return ctx.z_onehot_BNd(bias_BKdd.dtype)[:, None] @ bias_BKdd

    @staticmethod
    def _dense(q_BKNc: Tensor, k_BKNc: Tensor, v_BKNc: Tensor, bias_BKdd: Tensor, ctx: TokenContext) -> Tensor:
        z_BN = ctx.z_BN
        bias_BKdd = bias_BKdd.expand(z_BN.shape[0], -1, -1, -1)
        case_B11 = torch.arange(z_BN.shape[0], device=z_BN.device)[:, None, None]
        bias_BKNN = bias_BKdd.transpose(0, 1)[:, case_B11, z_BN[:, :, None], z_BN[:, None, :]].transpose(0, 1)
        scores_BKNN = (q_BKNc @ k_BKNc.transpose(-1, -2)) * q_BKNc.shape[-1] ** -0.5
        scores_BKNN = scores_BKNN.float() if scores_BKNN.dtype != torch.float64 else scores_BKNN
        scores_BKNN = scores_BKNN + bias_BKNN
        if ctx.token_mask_BN is None:
            share_BKNN = scores_BKNN.softmax(dim=-1)
        else:
            share_BKNN = masked_softmax(scores_BKNN, ctx.token_mask_BN[:, None, None])
        return share_BKNN.to(v_BKNc.dtype) @ v_BKNc
