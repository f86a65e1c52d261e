"""Which of a sentence and its opposites fits a visual feature."""

from __future__ import annotations

import torch
from torch import Tensor


def opposite_text(
    visual_MP: Tensor, text_MP: Tensor, opposite_MOP: Tensor, mask_MO: Tensor, scale: Tensor | float
) -> Tensor:
    """Cross-entropy of each sentence against its opposites, as [sum over sentences, number of sentences] (2).

    Args:
        visual_MP, text_MP, opposite_MOP: normalised embeddings.
        mask_MO: False for padding of the opposites.
        scale: factor of the cosine similarities.
    """
    own_M1 = (visual_MP * text_MP).sum(dim=-1, keepdim=True)
    other_MO = (visual_MP[:, None] * opposite_MOP).sum(dim=-1)
    other_MO = (scale * other_MO).masked_fill(~mask_MO, float("-inf"))
    logits_MK = torch.cat([scale * own_M1, other_MO], dim=1)
    loss_M = logits_MK.logsumexp(dim=1) - logits_MK[:, 0]
    return torch.stack([loss_M.sum(), loss_M.new_full((), len(loss_M))])
