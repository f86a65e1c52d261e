"""Initial weights of ViTs."""

from __future__ import annotations

import math

import torch.nn as nn


def init_vit(module: nn.Module) -> None:
    """For ``module.apply``: truncated normal linears, zero biases, unit norms."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def init_as_linear(conv: nn.Conv3d | nn.Linear) -> None:
    """Initialise a patch projection with unit gain over the patch, independent of the patch's volume."""
    fan_in = conv.weight[0].numel()
    nn.init.trunc_normal_(conv.weight, std=1 / math.sqrt(fan_in))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def scale_residual_(linear: nn.Linear, depth: int) -> None:
    """Scale the last linear layer of a residual branch, so that the variance does not grow with depth."""
    linear.weight.data.div_(math.sqrt(2.0 * depth))
