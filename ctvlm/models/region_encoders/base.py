"""Base class of region encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch import Tensor

from ctvlm.structures import TokenContext


@dataclass
class RegionEncoding:
    """Assignment of patches to regions.

    Attributes:
        assignment: (B, N, R + 1), rows sum to 1, column 0 is background.
        logits: (B, N, R + 1) of a predicted assignment, else ``None``.
        presence: regions in the volume (B, R); ``None``: they follow from the assignment.
    """

    assignment: Tensor
    logits: Tensor | None = None
    presence: Tensor | None = None


def pool_by_assignment(tokens_BNE: Tensor, assignment_BNR: Tensor) -> Tensor:
    """Mean token of each region, weighted by the assignment (B, R, E); zero for a region without weight."""
    total_B1R = assignment_BNR.sum(dim=1, keepdim=True)
    weight_BNR = assignment_BNR / total_B1R.clamp(min=1e-6)
    return weight_BNR.transpose(1, 2).to(tokens_BNE.dtype) @ tokens_BNE


class RegionEncoder(nn.Module, ABC):
    """Assignment of patches to regions, and one token per region.

    A subclass implements ``assign``. Region ids are 1..R, 0 is background, and -1 marks voxels of unknown region (a
    case without a map in a batch with maps is -1 everywhere).

    Attributes:
        provides_regions: False if blocks should not attend to regions.
        reads_features: True if ``assign`` reads the tokens, and should therefore run after some of the blocks.
    """

    provides_regions = True
    reads_features = False

    def __init__(self, embed_dims: int, num_regions: int = 20) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self.num_regions = num_regions
        self.region_embedding = nn.Parameter(torch.zeros(num_regions, embed_dims))
        nn.init.trunc_normal_(self.region_embedding, std=0.02)

    @abstractmethod
    def assign(self, tokens_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext) -> RegionEncoding:
        """Assignment of the tokens; ``region_map_BDHW`` is ``None`` if no case of the batch has a map."""

    def region_tokens(self, tokens_BNE: Tensor, assignment_BNR1: Tensor) -> Tensor:
        """Region embedding plus the pooled features of the region's patches (B, R, E)."""
        return pool_by_assignment(tokens_BNE, assignment_BNR1[..., 1:]) + self.region_embedding

    def forward(
        self, tokens_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext
    ) -> tuple[RegionEncoding, Tensor]:
        encoding = self.assign(tokens_BNE, region_map_BDHW, ctx)
        return encoding, self.region_tokens(tokens_BNE, encoding.assignment)


def all_background(tokens_BNE: Tensor, num_regions: int) -> Tensor:
    """The assignment of a batch without region maps: all patches are background (B, N, R + 1)."""
    assignment_BNR1 = tokens_BNE.new_zeros(*tokens_BNE.shape[:2], num_regions + 1, dtype=torch.float32)
    assignment_BNR1[..., 0] = 1
    return assignment_BNR1
