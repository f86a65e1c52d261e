"""Contract of necks (registry NECKS)."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from ctvlm.registry import NECKS
from ctvlm.testing.building import Component, Recipe
from ctvlm.testing.inputs import GRID, random_output
from ctvlm.testing.modules import check_common
from ctvlm.testing.require import require, require_close
from ctvlm.testing.tensors import tensors_of

Grid = tuple[int, int, int]


def check_neck(component: Component, **options: Any) -> None:
    """Check a neck, ``forward(encoder_output)`` to tensors with the batch as first dimension.

    Properties: those of ``check_common``, and for pooled features, (B, P) or (B, R, P), ``masked tokens`` (tokens
    outside ``token_mask`` have no influence).

    Args:
        component: class, registered name, or config.
        options: constructor arguments. ``in_dims`` and ``out_dims`` have small defaults.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(NECKS, component, options)
    width = recipe.size("in_dims")

    def make_inputs(_: nn.Module, batch: int, grid: Grid) -> tuple:
        return (random_output(batch, grid, width=width),)

    def check_shape(output: Any, _: nn.Module, batch: int, grid: Grid) -> None:
        found = [len(tensor) for tensor in tensors_of(output)]
        ok = all(length == batch for length in found)
        require(ok, recipe.name, "shape", f"first dimensions {found}", f"the batch size {batch} for grid {grid}")

    check_common(recipe, make_inputs, check_shape)
    module = recipe.build().eval()
    torch.manual_seed(1)
    out = random_output(2, GRID, width=width)
    with torch.no_grad():
        pooled = module(out)
        if any(tensor.ndim > 3 for tensor in tensors_of(pooled)):
            return  # feature maps: a convolution reads the zeros of dropped patches
        tokens = torch.where(out.token_mask[..., None], out.tokens, torch.randn_like(out.tokens))
        other = dataclasses.replace(out, tokens=tokens, levels=[*out.levels[:-1], tokens])
        what = "the result with other features outside token_mask"
        require_close(module(other), pooled, recipe.name, "masked tokens", what)
