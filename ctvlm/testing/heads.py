"""Contracts of heads (registry HEADS): projections of features, and heads that read an encoder's output."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import nn

from ctvlm.registry import HEADS
from ctvlm.testing.building import SIZES, Component, Recipe
from ctvlm.testing.inputs import random_output, random_tokens
from ctvlm.testing.layers import check_leading_dimensions
from ctvlm.testing.modules import check_common
from ctvlm.testing.require import require
from ctvlm.testing.tensors import tensors_of

Grid = tuple[int, int, int]


def check_projection(component: Component, **options: Any) -> None:
    """Check a projection of features (..., ``in_dims``) to (..., P).

    Properties: those of ``check_common``, ``leading dimensions`` (each vector is transformed by itself).

    Args:
        component: class, registered name, or config.
        options: constructor arguments. ``in_dims``, ``out_dims`` and ``num_regions`` have small defaults.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(HEADS, component, options)
    width = recipe.size("in_dims")

    def check_shape(output: Any, _: nn.Module, batch: int, grid: Grid) -> None:
        expected = (batch, math.prod(grid), recipe.config.get("out_dims", "any width"))
        found = tuple(output.shape)
        fits = found == expected if "out_dims" in recipe.config else found[:2] == expected[:2] and len(found) == 3
        require(fits, recipe.name, "shape", f"{found} for grid {grid}", expected)

    check_common(recipe, lambda _, batch, grid: (random_tokens(batch, grid, width),), check_shape)
    check_leading_dimensions(recipe, width)


def check_head(component: Component, **options: Any) -> None:
    """Check a head, ``forward(encoder_output)`` or ``forward(encoder_output, hu_B1DHW)``.

    Properties: those of ``check_common``; the output has the batch as first dimension.

    Args:
        component: class, registered name, or config.
        options: constructor arguments. ``in_dims`` and ``num_regions`` have small defaults.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(HEADS, component, options)
    width, regions = recipe.size("in_dims"), recipe.size("num_regions")
    reads_volume = len(inspect.signature(recipe.cls.forward).parameters) > 2  # self, encoded, volume

    def make_inputs(_: nn.Module, batch: int, grid: Grid) -> tuple:
        out = random_output(batch, grid, width=width, num_regions=regions)
        size = tuple(g * p for g, p in zip(grid, SIZES["patch_size"]))
        return (out, torch.randn(batch, 1, *size) * 400) if reads_volume else (out,)

    def check_shape(output: Any, _: nn.Module, batch: int, grid: Grid) -> None:
        found = [len(tensor) for tensor in tensors_of(output)]
        ok = all(length == batch for length in found)
        require(ok, recipe.name, "shape", f"first dimensions {found}", f"the batch size {batch} for grid {grid}")

    check_common(recipe, make_inputs, check_shape)
