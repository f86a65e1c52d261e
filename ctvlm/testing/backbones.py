"""Contract of vision encoders (registry BACKBONES)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ctvlm.models.region_encoders import patch_overlap
from ctvlm.registry import BACKBONES
from ctvlm.structures import Anatomy
from ctvlm.testing.building import Component, Recipe
from ctvlm.testing.inputs import GRID, body_volume, random_region_map
from ctvlm.testing.modules import check_common, seeded
from ctvlm.testing.require import require, require_close, require_error, require_finite, require_shape
from ctvlm.testing.tensors import loss_of, tensors_of

Grid = tuple[int, int, int]


def check_backbone(component: Component, **options: Any) -> None:
    """Check a vision encoder, ``forward(volume_BCDHW, region_map_BDHW=None, spacing_B3=None, anatomy=None)``.

    It returns an EncoderOutput.

    Properties: those of ``check_common``, ``rows sum to 1`` (of ``patch_to_region``), ``last level`` (``levels`` ends
    with ``tokens``), ``masked tokens`` (tokens outside ``token_mask`` are zero), ``absent regions`` (region tokens
    outside ``region_mask`` are zero), ``positions`` (in mm, from the spacing), ``no region map``, ``given
    overlap`` (``anatomy``, the overlap of patches and regions, changes no result and is not changed), ``size errors``
    (volumes, maps, channels and spacings that do not fit raise ValueError with the sizes).

    Args:
        component: class, registered name, or config.
        options: constructor arguments. Sizes have small defaults; pass ``depth=NOT_SET`` where a subclass sets it.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(BACKBONES, component, options)

    def make_inputs(module: Any, batch: int, grid: Grid, with_map: bool = True) -> tuple:
        size = tuple(g * p for g, p in zip(grid, module.patch_size))
        region_map = random_region_map(batch, size, module.num_regions) if with_map else None
        return body_volume(batch, size, recipe.size("in_channels")), region_map, torch.rand(batch, 3) + 0.5

    def check_shape(output: Any, module: Any, batch: int, grid: Grid) -> None:
        _check_output(recipe, output, module, batch, grid)

    check_common(recipe, make_inputs, check_shape)

    module: Any = recipe.build().eval()
    volume, region_map, spacing = seeded(make_inputs, module, 2, GRID)
    with torch.no_grad():
        found = module(volume, region_map, spacing).positions[:, 0]
        computed = module(volume, region_map, spacing)
        anatomy = Anatomy(*patch_overlap(region_map, GRID, module.num_regions))
        before = [tensor.clone() for tensor in tensors_of(anatomy)]
        given = module(volume, region_map, spacing, anatomy)
    require_close(given, computed, recipe.name, "given overlap", "the output without anatomy")
    require_close(anatomy, before, recipe.name, "given overlap", "an unchanged anatomy", rtol=0, atol=0)
    expected = spacing * torch.tensor(module.patch_size) / 2
    require_close(found, expected, recipe.name, "positions", "the centre of the first patch in mm (z, y, x)")

    module = recipe.build().train()
    output = module(*make_inputs(module, 2, GRID, with_map=False))
    require_finite(output, recipe.name, "no region map", "region_map=None")
    loss = loss_of(output)
    if loss.requires_grad:
        loss.backward()
    _check_size_errors(recipe, module, volume, region_map, spacing)


def _check_output(recipe: Recipe, out: Any, module: Any, batch: int, grid: Grid) -> None:
    cells, width, regions = math.prod(grid), module.embed_dims, module.num_regions
    require(tuple(out.grid) == grid, recipe.name, "shape", f"grid {out.grid}", f"grid {grid}")
    shapes = dict(
        tokens=(batch, cells, width),
        token_mask=(batch, cells),
        positions=(batch, cells, 3),
        region_tokens=(batch, regions, width),
        patch_to_region=(batch, cells, regions + 1),
    )
    for name, shape in shapes.items():
        require_shape(getattr(out, name), shape, recipe.name, "shape", f"{name}, grid {grid}, batch {batch}")
    for number, level in enumerate(out.levels):
        require_shape(level, shapes["tokens"], recipe.name, "shape", f"levels[{number}], grid {grid}")
    total = out.patch_to_region.sum(dim=-1)
    require_close(total, torch.ones_like(total), recipe.name, "rows sum to 1", "for each patch of patch_to_region")
    last = bool(out.levels) and torch.equal(out.levels[-1], out.tokens)
    require(last, recipe.name, "last level", "levels that end with other features", "levels[-1] equal to tokens")
    zero = not bool(out.tokens[~out.token_mask].any())
    require(zero, recipe.name, "masked tokens", "features outside token_mask", "zeros")
    zero = not bool(out.region_tokens[~out.region_mask].any())
    require(zero, recipe.name, "absent regions", "features outside region_mask", "zeros")


def _check_size_errors(
    recipe: Recipe, module: nn.Module, volume: torch.Tensor, region_map: torch.Tensor, spacing: torch.Tensor
) -> None:
    cut, patch = volume[..., :-1], tuple(recipe.build().patch_size)
    wrong = dict(
        volume=(lambda: module(cut), (str(tuple(cut.shape[2:])), str(patch), str(tuple(volume.shape[2:])))),
        region_map=(lambda: module(volume, region_map[..., :-1]), (str(tuple(region_map[..., :-1].shape)),)),
        channels=(lambda: module(volume[:, :1].repeat(1, volume.shape[1] + 1, 1, 1, 1)), ()),
        spacing=(lambda: module(volume, None, -spacing), ("spacing",)),
    )
    for name, (call, parts) in wrong.items():
        require_error(call, ValueError, parts, recipe.name, f"size errors ({name})")
