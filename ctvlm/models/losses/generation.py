"""Predicted tokens compared with the reference text."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.heads.generation.base import IGNORED
from ctvlm.models.losses.base import MeanLoss
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class GenerationLoss(MeanLoss):
    """Cross-entropy of the next token, averaged over all tokens with a target."""

    def terms(self, logits_TLV: Tensor, target_TL: Tensor) -> Tensor:
        """Sum and count (2) over tokens.

        Logits at position i predict token i + 1. ``target`` is ``IGNORED`` for tokens that are not predicted.
        """
        target_TL = target_TL[:, 1:]
        loss = F.cross_entropy(
            logits_TLV[:, :-1].flatten(0, 1).float(), target_TL.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return torch.stack([loss, (target_TL != IGNORED).sum().to(loss.dtype)])
