"""The 3D vision transformer with slice-aware and region-aware attention."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ctvlm.models.backbones.base import VisionEncoder
from ctvlm.models.backbones.block_configs import block_configs
from ctvlm.models.backbones.body_selection import body_of_hu, body_patches, keep_tokens
from ctvlm.models.backbones.positions import build_position
from ctvlm.models.layers.patch_cells import in_parts, patch_cells
from ctvlm.models.layers.patch_embedding import as_grid
from ctvlm.models.layers.transformer_block import NORM_EPS
from ctvlm.models.region_encoders import RegionEncoding
from ctvlm.registry import BACKBONES, LAYERS
from ctvlm.structures import Anatomy, EncoderOutput, TokenContext
from ctvlm.utils import check_choice

SELECTIONS = ("none", "body")
Grid = tuple[int, int, int]
# HU (M, 1, D, H, W) to channels (M, C, D, H, W).
Window = Callable[[Tensor], Tensor]
PATCH_EMBED = dict(type="ThreeDPatchEmbedding", in_channels=3, patch_size=(4, 16, 16))
BLOCK = dict(
    type="ThreeDTransformerBlock",
    num_heads=12,
    attention=dict(type="SliceAwareAttention"),
    region_attention=dict(type="RegionAwareAttention"),
)


@BACKBONES.register_module()
class ThreeDVisionEncoder(VisionEncoder):
    """Patch embedding, then blocks of slice-aware attention, region-aware attention and MLP.

    The default sizes are the spec's; the parts are the corrected forms. LiteralVisionEncoder has the literal forms.
    Any D, H, W that the patch size divides is valid.

    Args:
        img_size: volume size that learned positions are made for.
        normalize: ``dict(mean=..., std=...)``, see VisionEncoder.
        patch_embed: config of a LAYERS component; ``in_channels`` (3) and ``patch_size`` ((4, 16, 16)) belong here.
        position: ``'sincos'``, ``'learned'``, ``'rotary'`` (mm), or the config of a Position3D.
        block: config of the blocks, a LAYERS component with the arguments of ThreeDTransformerBlock. What is left out
            has the values of ``BLOCK``. ``drop_path`` is the rate of the last block; the rates rise linearly from 0.
            ``use_checkpoint=True`` recomputes a block in the backward pass. ``overrides`` changes single blocks:
            ``[dict(blocks=[-1], attention=dict(type='FullAttention'))]``.
        region_encoder: config of a region encoder, see VisionEncoder.
        region_layer: number of blocks before the regions are assigned; those blocks do not attend to regions.
            ``None``: 0 for an encoder that reads a map, half the depth for one that reads features.
        token_selection: ``'none'``, or ``'body'``: drop patches of air outside the body before the blocks; outputs are
            on the full grid. ``dict(type='body', channel=1)`` sets the channel of the soft-tissue window.
        out_layers: blocks whose outputs become ``levels``; the last block is always the last level.

    Raises:
        ValueError: a volume that the patch size does not divide, a region map of another shape than the volume,
            or a region id above ``num_regions``.
    """

    reads_hu = True
    # The number of tokens is rounded up to a multiple: a compiled encoder then has few shapes.
    token_multiple: int = 1

    def __init__(
        self,
        img_size: tuple[int, int, int] = (64, 512, 512),
        embed_dims: int = 768,
        depth: int = 12,
        num_regions: int = 20,
        normalize: dict | None = None,
        patch_embed: dict | None = None,
        position: str | dict = "sincos",
        block: dict | None = None,
        region_encoder: dict | None = None,
        region_layer: int | None = None,
        token_selection: str | dict = "none",
        out_layers: tuple[int, ...] = (),
    ) -> None:
        patch_embed = {**PATCH_EMBED, **(patch_embed or {})}
        block = {**BLOCK, **(block or {})}
        super().__init__(embed_dims, num_regions, region_encoder, patch_embed["in_channels"], normalize)
        selection: dict[str, Any] = {"type": token_selection} if isinstance(token_selection, str) else token_selection
        check_choice("ThreeDVisionEncoder", "token_selection", selection["type"], SELECTIONS)
        self.token_selection: str = selection["type"]
        self.body_channel: int = selection.get("channel", 1)
        if any(not -depth <= layer < depth for layer in out_layers):
            raise ValueError(f"out_layers = {tuple(out_layers)}; expected blocks from {-depth} to {depth - 1}")
        self.out_layers = {layer % depth for layer in out_layers}
        self.patch_embed = LAYERS.build(patch_embed, default_args=dict(embed_dims=embed_dims))
        self.patch_size: tuple[int, int, int] = self.patch_embed.patch_size
        self.position = build_position(
            position, self.patch_embed.grid_of(as_grid(img_size)), embed_dims, block["num_heads"]
        )

        if region_layer is None:
            region_layer = depth // 2 if self.region_encoder.reads_features else 0
        if not 0 <= region_layer < depth:
            raise ValueError(f"region_layer = {region_layer}; expected 0 to {depth - 1}, the blocks of depth = {depth}")
        self.region_layer = region_layer
        configs = block_configs(block, depth)
        self.checkpointed: list[bool] = [config.pop("use_checkpoint", False) for config in configs]
        for i, config in enumerate(configs):
            if i < region_layer or not self.region_encoder.provides_regions:
                config["region_attention"] = None
        self.blocks = nn.ModuleList(
            LAYERS.build(config, default_args=dict(embed_dims=embed_dims, depth=depth)) for config in configs
        )
        normalised = self.blocks[-1].ends_with_norm
        self.norm = nn.Identity() if normalised else nn.LayerNorm(embed_dims, eps=NORM_EPS)

    def forward(
        self,
        volume_BCDHW: Tensor,
        region_map_BDHW: Tensor | None = None,
        spacing_B3: Tensor | None = None,
        anatomy: Anatomy | None = None,
        window: Window | None = None,
        context: TokenContext | None = None,
    ) -> EncoderOutput:
        """``context``: result of ``token_context`` for the same volume, if it is known already."""
        self.check_region_map(volume_BCDHW, region_map_BDHW)
        ctx = self.token_context(volume_BCDHW, spacing_B3, window) if context is None else context
        if window is None:
            tokens_BNE = ctx.gather(self.patch_embed(self.standardize(volume_BCDHW)))
        else:
            tokens_BNE = self._embed_hu(volume_BCDHW.squeeze(1), window, ctx)
        if self.position.additive:
            code_NE = self.position(ctx.grid, tokens_BNE)
            tokens_BNE = tokens_BNE + ctx.gather(code_NE.expand(tokens_BNE.shape[0], -1, -1))
        else:
            ctx = ctx.with_rotary(self.position(ctx))
        tokens_BNE, encoding, levels = self._run_blocks(tokens_BNE, region_map_BDHW, ctx.with_anatomy(anatomy))
        return self.assemble(tokens_BNE, ctx, encoding, levels)

    def token_context(
        self,
        volume_BCDHW: Tensor,
        spacing_B3: Tensor | None = None,
        window: Window | None = None,
        visible_BN: Tensor | None = None,
    ) -> TokenContext:
        """Geometry of the tokens. ``visible_BN``: the patches to encode; by default those of ``select_patches``."""
        grid = self.patch_embed.grid_of(as_grid(volume_BCDHW.shape[2:]))
        ctx = TokenContext.full(volume_BCDHW.shape[0], grid, self.token_spacing(volume_BCDHW, spacing_B3, grid))
        if visible_BN is None and window is not None:
            visible_BN = self.select_patches(volume_BCDHW, grid, window)
        elif visible_BN is None and self.token_selection == "body":
            visible_BN = body_patches(volume_BCDHW[:, self.body_channel], grid)
        return ctx if visible_BN is None else keep_tokens(ctx, visible_BN, self.token_multiple)

    def select_patches(self, volumes: Iterable[Tensor], grid: Grid, window: Window) -> Tensor | None:
        return None if self.token_selection == "none" else body_of_hu(volumes, grid, window, self.body_channel)

    def _embed_hu(self, hu_BDHW: Tensor, window: Window, ctx: TokenContext) -> Tensor:
        """Features (B, N, E) of the tokens; 0 for padding. A patch embedding reads each patch on its own."""
        embed_cells = getattr(self.patch_embed, "embed_cells", None)
        merges = self.patch_embed.merges if embed_cells else (self.patch_size,)

        def embed(hu_Mv: Tensor) -> Tensor:
            cells_XCdhw = self.standardize(window(hu_Mv.reshape(-1, 1, *merges[0])))
            return embed_cells(cells_XCdhw) if embed_cells else self.patch_embed(cells_XCdhw)[:, 0]

        return ctx.pad(in_parts(embed, ctx.gather_kept(patch_cells(hu_BDHW, merges))))

    def _run_blocks(
        self, x_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext
    ) -> tuple[Tensor, RegionEncoding, list[Tensor]]:
        levels = []
        pool: Callable[[Tensor], Tensor] | None = None
        for i, block in enumerate(self.blocks):
            if i == self.region_layer:
                encoding = self._assign(x_BNE, region_map_BDHW, ctx)
                ctx = ctx.with_regions(encoding.assignment, None)
                pool = partial(self.region_encoder.region_tokens, assignment_BNR1=encoding.assignment)
            if self.checkpointed[i] and self.training and torch.is_grad_enabled():
                x_BNE = checkpoint(block, x_BNE, ctx, pool, use_reentrant=False)
            else:
                x_BNE = block(x_BNE, ctx, pool)
            if i in self.out_layers and i < len(self.blocks) - 1:
                levels.append(self._finish(x_BNE, ctx))
        x_BNE = self._finish(x_BNE, ctx)
        return x_BNE, encoding, [*levels, x_BNE]

    def _assign(self, x_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext) -> RegionEncoding:
        encoding = self.region_encoder.assign(x_BNE, region_map_BDHW, ctx)
        if ctx.token_mask_BN is not None:
            # Padding belongs to no region, so pooling needs no further mask.
            encoding.assignment = encoding.assignment * ctx.token_mask_BN[..., None]
        return encoding

    def _finish(self, x_BNE: Tensor, ctx: TokenContext) -> Tensor:
        x_BNE = self.norm(x_BNE)
        return x_BNE if ctx.token_mask_BN is None else x_BNE * ctx.token_mask_BN[..., None]
