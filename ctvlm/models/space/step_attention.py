"""Attention of a step over patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.layers import masked_softmax


def step_attention(steps_BSP: Tensor, patches_BNP: Tensor, scale: float, token_mask_BN: Tensor) -> Tensor:
    """Attention of each step's text over the patches of its own case (B, S, N), in float32 at least.

    Rows sum to 1, or to 0 where the mask excludes all patches of the case. ``scale`` is the inverse temperature of the
    cosine similarity.
    """
    steps_BSP, patches_BNP = F.normalize(steps_BSP, dim=-1), F.normalize(patches_BNP, dim=-1)
    scores_BSN = scale * steps_BSP @ patches_BNP.transpose(1, 2)
    scores_BSN = scores_BSN.to(torch.promote_types(scores_BSN.dtype, torch.float32))
    return masked_softmax(scores_BSN, token_mask_BN[:, None, :])
