"""Contract of region encoders (registry REGION_ENCODERS)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ctvlm.registry import REGION_ENCODERS
from ctvlm.testing.building import SIZES, Component, Recipe
from ctvlm.testing.inputs import GRID, random_context, random_region_map, random_tokens
from ctvlm.testing.modules import check_common
from ctvlm.testing.require import require, require_close, require_finite, require_shape

Grid = tuple[int, int, int]


def check_region_encoder(component: Component, **options: Any) -> None:
    """Check a region encoder, ``forward(tokens_BNE, region_map_BDHW | None, ctx)``.

    It returns a RegionEncoding, whose ``assignment`` is (B, N, R + 1), and region tokens (B, R, E).

    Properties: those of ``check_common``, ``rows sum to 1``, ``no region map`` (it accepts None), ``unknown region
    map`` (a case of -1 in a batch with maps is treated like a case without a map), ``attributes`` (the bools
    ``provides_regions`` and ``reads_features``).

    Args:
        component: class, registered name, or config.
        options: constructor arguments. ``embed_dims`` and ``num_regions`` have small defaults.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(REGION_ENCODERS, component, options)
    width, regions = recipe.size("embed_dims"), recipe.size("num_regions")

    def make_inputs(_: nn.Module, batch: int, grid: Grid, with_map: bool = True) -> tuple:
        size = tuple(g * p for g, p in zip(grid, SIZES["patch_size"]))
        region_map = random_region_map(batch, size, regions) if with_map else None
        ctx = random_context(batch, grid, width=width, num_regions=regions)
        return random_tokens(batch, grid, width), region_map, ctx

    def check_shape(output: Any, module: Any, batch: int, grid: Grid) -> None:
        encoding, tokens_BRE = output
        shape, context = (batch, math.prod(grid), regions + 1), f"grid {grid}, batch {batch}"
        require_shape(encoding.assignment, shape, recipe.name, "shape", f"assignment, {context}")
        require_shape(tokens_BRE, (batch, regions, width), recipe.name, "shape", f"region tokens, {context}")
        if encoding.logits is not None:
            require_shape(encoding.logits, shape, recipe.name, "shape", f"logits, {context}")
        if encoding.presence is not None:
            require_shape(encoding.presence, (batch, regions), recipe.name, "shape", f"presence, {context}")
        total = encoding.assignment.sum(dim=-1)
        require_close(total, torch.ones_like(total), recipe.name, "rows sum to 1", context)
        for name in ("provides_regions", "reads_features"):
            found = getattr(module, name, None)
            require(isinstance(found, bool), recipe.name, "attributes", f"{name} = {found}", "True or False")

    check_common(recipe, make_inputs, check_shape)
    module = recipe.build().eval()
    torch.manual_seed(1)
    tokens_BNE, region_map, ctx = make_inputs(module, 2, GRID)
    with torch.no_grad():
        without = module(tokens_BNE, None, ctx)
        check_shape(without, module, 2, GRID)
        require_finite(without, recipe.name, "no region map", "region_map=None")
        region_map[1] = -1
        mixed = module(tokens_BNE, region_map, ctx)
    what = "the assignment of the same case without a map"
    found, expected = mixed[0].assignment[1], without[0].assignment[1]
    require_close(found, expected, recipe.name, "unknown region map", what)
