"""Projections to the space shared with text."""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from ctvlm.models.layers import init_vit
from ctvlm.registry import HEADS


class Projection(nn.Module):
    """(..., in_dims) to (..., out_dims), not normalised.

    Args:
        hidden_dims: width of a hidden layer with GELU; ``None``: one linear layer.
    """

    def __init__(self, in_dims: int, out_dims: int = 512, hidden_dims: int | None = None) -> None:
        super().__init__()
        self.in_dims, self.out_dims = in_dims, out_dims
        self.layers: nn.Module
        if hidden_dims is None:
            self.layers = nn.Linear(in_dims, out_dims)
        else:
            self.layers = nn.Sequential(nn.Linear(in_dims, hidden_dims), nn.GELU(), nn.Linear(hidden_dims, out_dims))
        self.apply(init_vit)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@HEADS.register_module()
class VolumeProjection(Projection):
    """Volume features (B, E) to (B, P)."""


@HEADS.register_module()
class RegionProjection(Projection):
    """Region features (B, R, E) to (B, R, P)."""


@HEADS.register_module()
class PatchProjection(Projection):
    """Patch features (B, N, E) to (B, N, P)."""


@HEADS.register_module()
class TextProjection(Projection):
    """Text features (U, E) to (U, P)."""
