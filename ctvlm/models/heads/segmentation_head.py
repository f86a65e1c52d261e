"""Which region each patch lies in, as a training signal and as a coarse map."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from ctvlm.models.heads.region_map import add_region_maps
from ctvlm.models.layers import init_vit
from ctvlm.registry import HEADS, LOSSES
from ctvlm.structures import Anatomy, CTDataSample, EncoderOutput


class PatchSegmentation(nn.Module):
    """Region logits on the patch grid, held against the exact overlap of patches and regions.

    A subclass writes ``logits(encoded)``. As an auxiliary head it gives ``terms`` to the loss and ``pred_region_map``
    (D, H, W), uint8, to a prediction; of several heads that predict a map the last one's stays.
    """

    def __init__(self, loss: dict | None = None, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss = LOSSES.build(loss or dict(type="SegmentationLoss"))
        self.loss_weight = loss_weight

    def logits(self, encoded: EncoderOutput) -> Tensor:
        raise NotImplementedError

    def terms(
        self, encoded: EncoderOutput, anatomy: Anatomy | None, inputs: dict, data_samples: list[CTDataSample]
    ) -> Tensor:
        """Sum and count (2) of the loss over patches that took part and whose region is known."""
        logits_BNR1 = self.logits(encoded)
        if anatomy is None:
            return nothing_known(logits_BNR1)
        return self.loss(logits_BNR1, anatomy.shares_BNR1, encoded.token_mask & (anatomy.known_BN > 0))

    @torch.no_grad()
    def predict(self, encoded: EncoderOutput, inputs: dict, data_samples: list[CTDataSample]) -> None:
        """Write ``pred_region_map``; patches that took no part are background."""
        logits_BNR1 = self.logits(encoded).float()
        outside = logits_BNR1.new_full(logits_BNR1.shape[-1:], logits_BNR1.min() - 1)
        outside[0] = logits_BNR1.max() + 1
        logits_BNR1 = torch.where(encoded.token_mask[..., None], logits_BNR1, outside)
        add_region_maps(logits_BNR1.transpose(1, 2).unflatten(2, encoded.grid), inputs["volume"], data_samples)


def nothing_known(logits: Tensor) -> Tensor:
    """Sum 0 of count 0, still hanging on the logits: each rank's parameters take part in every step (DDP)."""
    zero = logits.sum() * 0
    return torch.stack([zero, zero.detach()])


@HEADS.register_module()
class SegmentationHead(PatchSegmentation):
    """Patch features (B, N, E) to region logits (B, N, R + 1) on the patch grid; column 0 is background."""

    def __init__(self, in_dims: int, num_regions: int = 20, loss: dict | None = None, loss_weight: float = 1.0) -> None:
        super().__init__(loss, loss_weight)
        self.norm = nn.LayerNorm(in_dims)
        self.classify = nn.Linear(in_dims, num_regions + 1)
        self.norm.apply(init_vit)
        self.classify.apply(init_vit)

    def forward(self, tokens_BNE: Tensor) -> Tensor:
        return self.classify(self.norm(tokens_BNE))

    def logits(self, encoded: EncoderOutput) -> Tensor:
        return self(encoded.tokens)
