"""One feature per anatomical region."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from ctvlm.models.layers import masked_softmax
from ctvlm.registry import NECKS
from ctvlm.structures import EncoderOutput
from ctvlm.utils import check_choice

MODES = ("mean", "attention")


@NECKS.register_module()
class RegionPooling(nn.Module):
    """Pool patch features by the patch-to-region assignment: (B, R, E), and a mask (B, R) of the regions present.

    Args:
        mode: ``'mean'``: average of the patches, weighted by the assignment. ``'attention'``: attention pooling by a
            learned score, plus the region's token, so that a small lesion can outweigh the rest of a large organ;
            needs ``in_dims``.
    """

    def __init__(self, in_dims: int | None = None, mode: str = "mean") -> None:
        super().__init__()
        check_choice("RegionPooling", "mode", mode, MODES)
        if mode == "attention" and in_dims is None:
            raise ValueError("RegionPooling(mode='attention'): in_dims is None; expected the width of the tokens")
        self.score = nn.Linear(in_dims, 1) if mode == "attention" and in_dims is not None else None

    def forward(self, out: EncoderOutput) -> tuple[Tensor, Tensor]:
        weight_BNR = out.patch_to_region[..., 1:] * out.token_mask[..., None]
        if self.score is None:
            weight_BNR = weight_BNR / weight_BNR.sum(dim=1, keepdim=True).clamp(min=1e-12)
        else:
            score_BN1 = self.score(out.tokens)
            score_BN1 = score_BN1.to(torch.promote_types(score_BN1.dtype, torch.float32))
            # share * exp(score), normalised over the patches of the region.
            inside_BNR = weight_BNR > 0
            log_share_BNR = weight_BNR.where(inside_BNR, 1.0).log()
            weight_BNR = masked_softmax(score_BN1 + log_share_BNR, inside_BNR, dim=1)
        pooled_BRE = weight_BNR.transpose(1, 2).to(out.tokens.dtype) @ out.tokens
        if self.score is not None:
            pooled_BRE = pooled_BRE + out.region_tokens
        return pooled_BRE * out.region_mask[..., None], out.region_mask
