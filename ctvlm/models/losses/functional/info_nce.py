"""InfoNCE with several positives."""

from __future__ import annotations

import torch
from torch import Tensor


def info_nce(
    visual_mP: Tensor,
    text_mP: Tensor,
    visual_MP: Tensor,
    text_MP: Tensor,
    logit_scale: Tensor | float,
    positive_mM: Tensor,
    allowed_mM: Tensor | None = None,
) -> Tensor:
    """Symmetric InfoNCE, summed over m rows (scalar): each volume against all texts, each text against all volumes.

    Divided by M it is, where the rows are all M pairs and each has one positive, the loss of CLIP (Radford et al.,
    2021). The loss of M pairs is the sum of those of any parts of their rows.

    Args:
        visual_mP, text_mP: normalised features of the rows, which are among the columns.
        visual_MP, text_MP: normalised features of all pairs.
        positive_mM: pairs that share a row's positive mass evenly.
        allowed_mM: columns that a row is compared with; all, if None. A row without any has a loss of 0; others must
            be allowed their own pair.
    """
    if allowed_mM is not None:
        positive_mM = positive_mM & allowed_mM
    targets_mM = positive_mM.to(visual_mP.dtype)
    targets_mM = targets_mM / targets_mM.sum(dim=1, keepdim=True).clamp(min=1)
    total = visual_mP.new_zeros(())
    for rows_mP, columns_MP in ((visual_mP, text_MP), (text_mP, visual_MP)):
        logits_mM = logit_scale * rows_mP @ columns_MP.t()
        if allowed_mM is not None:
            logits_mM = logits_mM.masked_fill(~allowed_mM, torch.finfo(logits_mM.dtype).min)
        total = total - (targets_mM * logits_mM.log_softmax(dim=1)).sum()
    return total / 2
