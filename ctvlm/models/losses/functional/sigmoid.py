"""Each pair by itself: does this text belong to this volume?"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def sigmoid_pairs(
    visual_mP: Tensor,
    text_MP: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    positive_mM: Tensor,
    allowed_mM: Tensor | None = None,
) -> Tensor:
    """Logistic loss of every (volume, text) pair, summed over m rows and M columns (scalar).

    Divided by M it is, where each row has one positive, the loss of SigLIP (Zhai et al., 2023).

    Args:
        visual_mP, text_MP: normalised features.
        positive_mM: pairs that belong together; all others are negatives.
        allowed_mM: pairs that count; all, if None.
    """
    logits_mM = logit_scale * visual_mP @ text_MP.t() + logit_bias
    loss_mM = F.softplus(logits_mM.where(~positive_mM, -logits_mM))
    return (loss_mM if allowed_mM is None else loss_mM * allowed_mM).sum()
