"""Patches, pooled by each reasoning step, against that step."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ctvlm.models.losses.functional import info_nce, step_attention
from ctvlm.models.losses.logit_scale import LogitScale
from ctvlm.registry import LOSSES
from ctvlm.utils.distributed import all_gather_with_grad


@LOSSES.register_module()
class StepAlignmentLoss(nn.Module):
    """Each step's text attends over the patches of its case; the pooled patch feature must match the step.

    Negatives are the other steps of the case and of the batch. The idea is GLoRIA's (Huang et al., 2021),
    with reasoning steps in place of words.

    Args:
        attention_scale: inverse temperature of the attention over patches.
        loss_weight: factor of the term in the sum.
    """

    def __init__(self, attention_scale: float = 10.0, loss_weight: float = 1.0):
        super().__init__()
        self.attention_scale = attention_scale
        self.loss_weight = loss_weight
        self.logit_scale = LogitScale()

    def attend(self, steps_BSP: Tensor, patches_BNP: Tensor, token_mask_BN: Tensor) -> Tensor:
        """Attention of each step over the patches (B, S, N)."""
        steps_BSP, patches_BNP = F.normalize(steps_BSP, dim=-1), F.normalize(patches_BNP, dim=-1)
        return step_attention(steps_BSP, patches_BNP, self.attention_scale, token_mask_BN)

    def forward(
        self,
        steps_BSP: Tensor,
        patches_BNP: Tensor,
        token_mask_BN: Tensor,
        step_mask_BS: Tensor,
        text_ids_BS: Tensor,
    ) -> Tensor:
        attention_BSN = self.attend(steps_BSP, patches_BNP, token_mask_BN)
        pooled_BSP = attention_BSN @ patches_BNP
        pooled_MP = all_gather_with_grad(F.normalize(pooled_BSP[step_mask_BS], dim=-1))
        text_MP = all_gather_with_grad(F.normalize(steps_BSP[step_mask_BS], dim=-1))
        text_ids_M = all_gather_with_grad(text_ids_BS[step_mask_BS])
        if len(pooled_MP) == 0:
            return 0.0 * (pooled_MP.sum() + text_MP.sum() + self.logit_scale())
        return self.loss_weight * info_nce(pooled_MP, text_MP, self.logit_scale(), text_ids_M)
