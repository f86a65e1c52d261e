"""Regions of patches."""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from ctvlm.models.layers import init_vit
from ctvlm.registry import HEADS
from ctvlm.structures import EncoderOutput


@HEADS.register_module()
class SegmentationHead(nn.Module):
    """Patch features to region logits (B, R + 1, d, h, w) on the patch grid; column 0 is background."""

    def __init__(self, in_dims: int, num_regions: int = 20) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_dims)
        self.classify = nn.Linear(in_dims, num_regions + 1)
        self.norm.apply(init_vit)
        self.classify.apply(init_vit)

    def forward(self, encoded: EncoderOutput, hu_B1DHW: Tensor) -> Tensor:
        return self.classify(self.norm(encoded.tokens)).transpose(1, 2).unflatten(2, encoded.grid)
