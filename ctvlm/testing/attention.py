"""Contract of attention layers (registry ATTENTION)."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from ctvlm.registry import ATTENTION
from ctvlm.structures import TokenContext
from ctvlm.testing.building import Component, Recipe
from ctvlm.testing.inputs import random_context, random_tokens
from ctvlm.testing.modules import check_common
from ctvlm.testing.require import require_close, require_shape


def check_attention(component: Component, **options: Any) -> None:
    """Check an attention layer, ``forward(x_BNE, ctx)`` to (B, N, E).

    Properties: those of ``check_common``, ``masked tokens`` (padding has no influence on other tokens) and ``order of
    tokens`` (a permutation of the tokens permutes the output).

    Args:
        component: class, registered name, or config.
        options: constructor arguments. ``embed_dims`` and ``num_heads`` have small defaults.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(ATTENTION, component, options)
    width = recipe.size("embed_dims")

    def make_inputs(_: nn.Module, batch: int, grid: tuple[int, int, int]) -> tuple:
        return random_tokens(batch, grid, width), random_context(batch, grid, width=width)

    def check_shape(output: Any, _: nn.Module, batch: int, grid: tuple[int, int, int]) -> None:
        require_shape(output, (batch, grid[0] * grid[1] * grid[2], width), recipe.name, "shape", f"grid {grid}")

    check_common(recipe, make_inputs, check_shape)
    check_token_layer(recipe, width)


@torch.no_grad()
def check_token_layer(recipe: Recipe, width: int) -> None:
    """Check ``masked tokens`` and ``order of tokens`` of a layer ``forward(x_BNE, ctx)``, in double precision."""
    layer = recipe.build().double().eval()
    torch.manual_seed(5)
    ctx = random_context(3, (3, 2, 2), padded=True, dtype=torch.float64, width=width)
    x_BNE = torch.randn(*ctx.index_BN.shape, width, dtype=torch.float64)
    output_BNE = layer(x_BNE, ctx)
    mask_BN = ctx.token_mask_BN
    assert mask_BN is not None

    other_BNE = torch.where(mask_BN[..., None], x_BNE, torch.randn_like(x_BNE))
    found = layer(other_BNE, _fresh(ctx))[mask_BN]
    what = "the output with other features of padding tokens"
    require_close(found, output_BNE[mask_BN], recipe.name, "masked tokens", what, rtol=1e-7, atol=1e-7)

    order = torch.randperm(x_BNE.shape[1])
    permuted = _permuted(ctx, order)
    found = layer(x_BNE[:, order], permuted)[mask_BN[:, order]]
    expected = output_BNE[:, order][mask_BN[:, order]]
    what = "the output permuted like the tokens"
    require_close(found, expected, recipe.name, "order of tokens", what, rtol=1e-7, atol=1e-7)


def _fresh(ctx: TokenContext) -> TokenContext:
    return dataclasses.replace(ctx, cache={})


def _permuted(ctx: TokenContext, order: Tensor) -> TokenContext:
    assert ctx.token_mask_BN is not None and ctx.patch_to_region_BNR1 is not None
    return dataclasses.replace(
        ctx,
        index_BN=ctx.index_BN[:, order],
        token_mask_BN=ctx.token_mask_BN[:, order],
        patch_to_region_BNR1=ctx.patch_to_region_BNR1[:, order],
        cache={},
    )
