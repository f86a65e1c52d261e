"""Contracts of small layers (registry LAYERS): feed-forward layers, blocks, patch embeddings, position encodings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ctvlm.registry import LAYERS
from ctvlm.structures import TokenContext
from ctvlm.testing.attention import check_token_layer
from ctvlm.testing.building import Component, Recipe
from ctvlm.testing.inputs import GRID, body_volume, random_context, random_tokens
from ctvlm.testing.modules import check_common
from ctvlm.testing.require import require, require_close, require_error, require_shape

Grid = tuple[int, int, int]


def check_layer(component: Component, **options: Any) -> None:
    """Check a layer that maps features (..., E) to features (..., E) of the same width.

    Properties: those of ``check_common``, ``leading dimensions`` (each vector is transformed by itself).

    Args:
        component: class, registered name, or config.
        options: constructor arguments. ``embed_dims`` has a small default.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(LAYERS, component, options)
    width = recipe.size("embed_dims")

    def check_shape(output: Any, _: nn.Module, batch: int, grid: Grid) -> None:
        require_shape(output, (batch, math.prod(grid), width), recipe.name, "shape", f"grid {grid}")

    check_common(recipe, lambda _, batch, grid: (random_tokens(batch, grid, width),), check_shape)
    check_leading_dimensions(recipe, width)


@torch.no_grad()
def check_leading_dimensions(recipe: Recipe, width: int) -> None:
    """Check that vectors (..., E) are transformed one by one, for any number of leading dimensions."""
    module = recipe.build().eval()
    x_ABNE = torch.randn(2, 3, 4, width)
    expected = torch.cat([module(x_E[None]) for x_E in x_ABNE.flatten(0, 2)]).unflatten(0, (2, 3, 4))
    require_close(module(x_ABNE), expected, recipe.name, "leading dimensions", "each vector on its own")


def check_block(component: Component, **options: Any) -> None:
    """Check a transformer block, ``forward(x_BNE, ctx, pool_regions=None)`` to (B, N, E).

    Properties: those of ``check_attention``, and ``ends_with_norm`` (the attribute is a bool).

    Args:
        component: class, registered name, or config.
        options: constructor arguments. ``embed_dims``, ``num_heads`` and ``depth`` have small defaults.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(LAYERS, component, options)
    width = recipe.size("embed_dims")

    def make_inputs(_: nn.Module, batch: int, grid: Grid) -> tuple:
        return random_tokens(batch, grid, width), random_context(batch, grid, width=width)

    def check_shape(output: Any, module: nn.Module, batch: int, grid: Grid) -> None:
        require_shape(output, (batch, math.prod(grid), width), recipe.name, "shape", f"grid {grid}")
        found = getattr(module, "ends_with_norm", None)
        require(isinstance(found, bool), recipe.name, "ends_with_norm", found, "True or False")

    check_common(recipe, make_inputs, check_shape)
    check_token_layer(recipe, width)


def check_patch_embedding(component: Component, **options: Any) -> None:
    """Check a patch embedding, ``forward(volume_BCDHW)`` to tokens (B, N, E) in z-major order.

    Properties: those of ``check_common``, ``patch_size`` and ``grid_of`` (of the module), ``own patch only`` (body
    selection drops patches after the embedding, so no token may read voxels of another patch) and ``size errors``.

    Args:
        component: class, registered name, or config.
        options: constructor arguments. ``in_channels``, ``embed_dims`` and ``patch_size`` have small defaults.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(LAYERS, component, options)
    width, channels, patch = recipe.size("embed_dims"), recipe.size("in_channels"), tuple(recipe.size("patch_size"))

    def make_inputs(_: nn.Module, batch: int, grid: Grid) -> tuple:
        return (body_volume(batch, tuple(g * p for g, p in zip(grid, patch)), channels),)

    def check_shape(output: Any, module: Any, batch: int, grid: Grid) -> None:
        require_shape(output, (batch, math.prod(grid), width), recipe.name, "shape", f"grid {grid}")
        require(tuple(module.patch_size) == patch, recipe.name, "patch_size", module.patch_size, patch)
        found = module.grid_of(tuple(g * p for g, p in zip(grid, patch)))
        require(tuple(found) == grid, recipe.name, "grid_of", found, grid)

    check_common(recipe, make_inputs, check_shape)
    module = recipe.build().eval()
    with torch.no_grad():
        (volume,) = make_inputs(module, 1, GRID)
        other = volume.clone()
        other[:, :, : patch[0], : patch[1], : patch[2]] += 1
        changed = (module(other) - module(volume)).abs().amax(dim=(0, 2)) > 1e-6
    require(bool(changed[0]), recipe.name, "own patch only", "token 0 ignores its patch", "token 0 to depend on it")
    found = f"tokens {changed.nonzero().flatten().tolist()} change with patch 0"
    require(not bool(changed[1:].any()), recipe.name, "own patch only", found, "only token 0 to change")
    if patch[-1] > 1:
        parts = (str(tuple(volume[..., :-1].shape[2:])), str(patch))
        require_error(lambda: module(volume[..., :-1]), ValueError, parts, recipe.name, "size errors")
    require_error(lambda: module(volume.repeat(1, 2, 1, 1, 1)), ValueError, (), recipe.name, "channel errors")


def check_position(component: Component, **options: Any) -> None:
    """Check a position encoding.

    With ``additive = True``: ``forward(grid, like)`` returns (N, E), which the encoder adds to the tokens. With
    ``additive = False``: ``forward(ctx)`` returns cosines and sines, each (B, 1, N, half of the head width).

    Properties: those of ``check_common``, ``additive`` (the attribute is a bool), ``distinct`` (two patches never have
    the same code), and for rotary positions ``unit length`` and ``own position only`` (the angles of a token do not
    depend on the other tokens of its case).

    Args:
        component: class, registered name, or config.
        options: constructor arguments. ``embed_dims``, ``base_grid`` and ``head_dims`` have small defaults.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(LAYERS, component, options)
    module = recipe.build().eval()
    additive = getattr(module, "additive", None)
    require(isinstance(additive, bool), recipe.name, "additive", additive, "True or False")
    if additive:
        _check_additive_position(recipe)
    else:
        _check_rotary_position(recipe)


def _check_additive_position(recipe: Recipe) -> None:
    width = recipe.size("embed_dims")

    def check_shape(output: Any, _: nn.Module, batch: int, grid: Grid) -> None:
        require_shape(output, (math.prod(grid), width), recipe.name, "shape", f"grid {grid}")

    check_common(recipe, lambda _, batch, grid: (grid, random_tokens(batch, grid, width)), check_shape, batched=False)
    with torch.no_grad():
        _require_distinct(recipe, recipe.build().eval()(GRID, random_tokens(1, GRID, width)))


def _check_rotary_position(recipe: Recipe) -> None:
    half = recipe.size("head_dims") // 2

    def check_shape(output: Any, _: nn.Module, batch: int, grid: Grid) -> None:
        require(len(output) == 2, recipe.name, "shape", f"{len(output)} tensors", "cosines and sines")
        for part in output:
            require_shape(part, (batch, 1, math.prod(grid), half), recipe.name, "shape", f"grid {grid}")

    check_common(recipe, lambda _, batch, grid: (random_context(batch, grid),), check_shape)
    module = recipe.build().eval()
    torch.manual_seed(1)
    ctx = random_context(2, GRID, padded=True)
    everything = TokenContext.full(2, GRID, ctx.spacing_B3)
    with torch.no_grad():
        cos, sin = module(everything)
        kept = module(ctx)
    one = torch.ones_like(cos)
    require_close(cos.square() + sin.square(), one, recipe.name, "unit length", "cos^2 + sin^2 = 1")
    for part, full in zip(kept, (cos, sin)):
        expected = ctx.gather(full[:, 0])[:, None]
        require_close(part, expected, recipe.name, "own position only", "the angles of the same patches in a full grid")
    _require_distinct(recipe, torch.cat([cos, sin], dim=-1)[0, 0])


def _require_distinct(recipe: Recipe, code_NE: torch.Tensor) -> None:
    distance_NN = torch.cdist(code_NE.double(), code_NE.double()) + torch.eye(len(code_NE))
    found = f"a smallest distance of {float(distance_NN.min()):.3g} between two patches"
    require(bool(distance_NN.min() > 1e-6), recipe.name, "distinct", found, "more than 1e-6")
