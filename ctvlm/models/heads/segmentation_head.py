"""Which region each patch lies in, as a training signal."""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from ctvlm.models.layers import init_vit
from ctvlm.registry import HEADS


@HEADS.register_module()
class SegmentationHead(nn.Module):
    """Patch features (B, N, E) to region logits (B, N, R + 1) on the patch grid; column 0 is background."""

    def __init__(self, in_dims: int, num_regions: int = 20) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_dims)
        self.classify = nn.Linear(in_dims, num_regions + 1)
        self.apply(init_vit)

    def forward(self, tokens_BNE: Tensor) -> Tensor:
        return self.classify(self.norm(tokens_BNE))
