"""One feature per volume."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.layers import init_vit, masked_softmax
from ctvlm.registry import NECKS
from ctvlm.structures import EncoderOutput
from ctvlm.utils import check_choice

MODES = ("mean", "attention")


@NECKS.register_module()
class VolumePooling(nn.Module):
    """Pool the patches that are tokens: (B, E).

    Args:
        mode: ``'mean'``, or ``'attention'``: a learned query attends to the patches with ``num_heads`` heads
            (needs ``in_dims``).
        with_regions: the query also attends to the tokens of the regions in the volume (``'attention'`` only).
    """

    def __init__(
        self, in_dims: int | None = None, mode: str = "mean", num_heads: int = 4, with_regions: bool = False
    ) -> None:
        super().__init__()
        check_choice("VolumePooling", "mode", mode, MODES)
        self.mode = mode
        if with_regions and mode != "attention":
            raise ValueError(f"VolumePooling(with_regions=True): mode={mode!r}; expected 'attention'")
        self.with_regions = with_regions
        if mode == "attention":
            if in_dims is None or in_dims % num_heads:
                raise ValueError(
                    f"VolumePooling(mode='attention'): in_dims = {in_dims}; expected the tokens' width, a multiple of "
                    f"num_heads = {num_heads}"
                )
            self.num_heads = num_heads
            self.kv = nn.Linear(in_dims, 2 * in_dims)
            self.proj = nn.Linear(in_dims, in_dims)
            self.apply(init_vit)
            self.query = nn.Parameter(torch.zeros(num_heads, in_dims // num_heads))
            nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, out: EncoderOutput) -> Tensor:
        if self.mode == "mean":
            return (self.patch_shares(out)[:, None] @ out.tokens)[:, 0]
        share_BMK, tokens_BME = self._attend(out)
        share_BMK = share_BMK.to(tokens_BME.dtype)
        # The projection is linear, so tokens are pooled before it: one row per head instead of one per token.
        pooled_BKE = share_BMK.transpose(1, 2) @ tokens_BME
        value_KcE = self.kv.weight.unflatten(0, (2, self.num_heads, -1))[1]
        value_BKc = torch.einsum("bke,kce->bkc", pooled_BKE, value_KcE)
        bias_Kc = self.kv.bias.unflatten(0, (2, self.num_heads, -1))[1]
        value_BKc = value_BKc + share_BMK.sum(dim=1)[..., None] * bias_Kc
        return self.proj(value_BKc.flatten(1))

    def patch_shares(self, out: EncoderOutput) -> Tensor:
        """Weight of each patch in the pooled feature (B, N); rows sum to 1, or to 0 if no patch is a token.

        The weight of a region's token is distributed over the patches of the region.
        """
        if self.mode == "mean":
            weight_BN = out.token_mask.to(out.tokens.dtype)
            return weight_BN / weight_BN.sum(dim=1, keepdim=True).clamp(min=1)
        num_patches = out.tokens.shape[1]
        share_BM = self._attend(out)[0].mean(dim=-1)
        share_BN = share_BM[:, :num_patches]
        if self.with_regions:
            owned_BNR = out.patch_to_region[..., 1:] * out.token_mask[..., None]
            owned_BNR = owned_BNR / owned_BNR.sum(dim=1, keepdim=True).clamp(min=1e-6)
            share_BN = share_BN + (owned_BNR @ share_BM[:, num_patches:, None])[..., 0]
        return share_BN

    def _attend(self, out: EncoderOutput) -> tuple[Tensor, Tensor]:
        """Attention of each head over patches, then regions (B, M, K), and their tokens (B, M, E)."""
        tokens_BME, mask_BM = out.tokens, out.token_mask
        if self.with_regions:
            tokens_BME = torch.cat([tokens_BME, out.region_tokens.to(tokens_BME.dtype)], dim=1)
            mask_BM = torch.cat([mask_BM, out.region_mask], dim=1)
        # (x Wk) q = x (Wk q): the query is projected to the space of the tokens, instead of each token to its space.
        key_KcE = self.kv.weight.unflatten(0, (2, self.num_heads, -1))[0]
        bias_Kc = self.kv.bias.unflatten(0, (2, self.num_heads, -1))[0]
        query_KE = torch.einsum("kc,kce->ke", self.query, key_KcE)
        score_BMK = F.linear(tokens_BME, query_KE, (self.query * bias_Kc).sum(dim=1)) * self.query.shape[1] ** -0.5
        score_BMK = score_BMK.to(torch.promote_types(score_BMK.dtype, torch.float32))
        return masked_softmax(score_BMK, mask_BM[..., None], dim=1), tokens_BME
