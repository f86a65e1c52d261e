"""The mathematics of the contrastive objectives, free of modules and devices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def equal_text_targets(text_ids_M: Tensor) -> Tensor:
    """Soft targets (M, M): each row spreads its mass evenly over the columns with the same text.

    Duplicate texts are false negatives of one another: 14% of CT-RATE's impressions are duplicates.
    """
    equal_MM = (text_ids_M[:, None] == text_ids_M[None, :]).float()
    return equal_MM / equal_MM.sum(dim=1, keepdim=True)


def symmetric_cross_entropy(logits_MM: Tensor, targets_MM: Tensor) -> Tensor:
    """Mean of the row-wise and the column-wise cross-entropy; ``targets`` is symmetric (scalar)."""
    by_row = F.cross_entropy(logits_MM, targets_MM)
    by_column = F.cross_entropy(logits_MM.t(), targets_MM)
    return (by_row + by_column) / 2


def info_nce(visual_MP: Tensor, text_MP: Tensor, logit_scale: Tensor, text_ids_M: Tensor) -> Tensor:
    """Symmetric InfoNCE between M normalised pairs, equal texts sharing the positive mass.

    With distinct ``text_ids`` this is the loss of CLIP (Radford et al., 2021).
    """
    logits_MM = logit_scale * visual_MP @ text_MP.t()
    return symmetric_cross_entropy(logits_MM, equal_text_targets(text_ids_M).to(logits_MM.dtype))


def region_info_nce(
    visual_MP: Tensor,
    text_MP: Tensor,
    logit_scale: Tensor,
    text_ids_M: Tensor,
    region_ids_M: Tensor,
    cross_region: bool = True,
) -> Tensor:
    """InfoNCE over M (case, region) pairs that have a mention.

    Without ``cross_region`` the negatives of a pair are the same region of other cases only. A text that
    two regions share ("Both lungs are clear.") is positive for both.
    """
    logits_MM = logit_scale * visual_MP @ text_MP.t()
    targets_MM = equal_text_targets(text_ids_M).to(logits_MM.dtype)
    if not cross_region:
        same_region_MM = region_ids_M[:, None] == region_ids_M[None, :]
        logits_MM = logits_MM.masked_fill(~same_region_MM, torch.finfo(logits_MM.dtype).min)
        targets_MM = targets_MM * same_region_MM
        targets_MM = targets_MM / targets_MM.sum(dim=1, keepdim=True)
    return symmetric_cross_entropy(logits_MM, targets_MM)


def step_attention(steps_BSP: Tensor, patches_BNP: Tensor, scale: float, token_mask_BN: Tensor) -> Tensor:
    """Attention of each step's text over the patches of its own case (B, S, N), rows sum to 1.

    ``scale`` is the inverse temperature of the cosine similarity.
    """
    steps_BSP, patches_BNP = F.normalize(steps_BSP, dim=-1), F.normalize(patches_BNP, dim=-1)
    scores_BSN = scale * steps_BSP @ patches_BNP.transpose(1, 2)
    scores_BSN = scores_BSN.to(torch.promote_types(scores_BSN.dtype, torch.float32))
    return scores_BSN.masked_fill(~token_mask_BN[:, None, :], float("-inf")).softmax(dim=-1).to(steps_BSP.dtype)


def attention_focus(attention_BSN: Tensor, target_BSN: Tensor) -> Tensor:
    """Mean cross-entropy between target occupancy and attention, over the steps that have a target (sum, count).

    ``target`` rows sum to 1, or to 0 for a step without a place. Returned as sum and count, so that ranks
    with uneven numbers of steps can be averaged rightly.
    """
    has_target_BS = target_BSN.sum(dim=-1) > 0
    entropy_BS = -(target_BSN * attention_BSN.clamp(min=1e-8).log()).sum(dim=-1)
    return torch.stack([entropy_BS[has_target_BS].sum(), has_target_BS.sum().to(entropy_BS.dtype)])
