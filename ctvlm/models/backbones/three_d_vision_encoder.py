"""The 3D vision transformer that knows slices and anatomy."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ctvlm.models.backbones.base import VisionEncoder
from ctvlm.models.backbones.body_selection import body_patches, kept_index
from ctvlm.models.layers import Position3D
from ctvlm.models.layers.transformer_block import NORM_EPS
from ctvlm.models.region_encoders import RegionEncoding
from ctvlm.registry import BACKBONES, LAYERS
from ctvlm.structures import Anatomy, EncoderOutput, TokenContext
from ctvlm.utils import check_choice

POSITIONS = {"sincos": "SinCosPosition3D", "learned": "LearnedPosition3D", "rotary": "RotaryPosition3D"}
SELECTIONS = ("none", "body")


@BACKBONES.register_module()
class ThreeDVisionEncoder(VisionEncoder):
    """Patch embedding, then blocks of slice-aware attention, region-aware attention and MLP.

    Sizes are the spec's by default; the parts are their corrected forms. LiteralVisionEncoder has the spec's literal
    parts. Any D, H, W that the patch size divides is legal; ``img_size`` only sets the grid that learned positions
    are made for.

    Args:
        mean, std: as VisionEncoder.
        position: ``'sincos'``, ``'learned'``, ``'rotary'`` (mm), or the config of a LAYERS component.
        block: config of the blocks, a LAYERS component with the arguments of ThreeDTransformerBlock.
        attention: config of the blocks' self-attention; a list gives each block its own.
        global_attention: config of the self-attention of the blocks named in ``global_blocks``.
        region_attention: config of attention to regions; ``None`` leaves it out.
        region_layer: number of blocks before regions come in. ``None``: 0 for an encoder that reads a map,
            half the depth for one that reads features. Blocks before it do not attend to regions.
        token_selection: ``'body'`` drops patches of air outside the body before the blocks, judged by channel
            ``body_channel`` (the soft-tissue window); maps come back on the full grid.
        out_layers: blocks whose outputs become ``levels``; the last block is always the last level.
        use_checkpoint: recompute the blocks in the backward pass.

    Raises:
        ValueError: a volume that the patch size does not divide, a region map of another shape than the volume,
            or a region id above ``num_regions``.
    """

    def __init__(
        self,
        img_size: tuple[int, int, int] = (64, 512, 512),
        patch_size: tuple[int, int, int] = (4, 16, 16),
        in_channels: int = 3,
        embed_dims: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        num_regions: int = 20,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        drop_path: float = 0.0,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        patch_embed: dict | None = None,
        position: str | dict = "sincos",
        block: dict | None = None,
        attention: dict | list[dict] | None = None,
        global_attention: dict | None = None,
        global_blocks: tuple[int, ...] = (),
        region_encoder: dict | None = None,
        region_attention: dict | None | str = "default",
        region_layer: int | None = None,
        token_selection: str = "none",
        body_channel: int = 1,
        out_layers: tuple[int, ...] = (),
        use_checkpoint: bool = False,
    ) -> None:
        region_encoder = region_encoder or dict(type="SoftOverlapRegionEncoder")
        super().__init__(embed_dims, num_regions, region_encoder, in_channels, mean, std)
        check_choice("ThreeDVisionEncoder", "token_selection", token_selection, SELECTIONS)
        self.token_selection = token_selection
        self.body_channel = body_channel
        self.use_checkpoint = use_checkpoint
        if any(not -depth <= layer < depth for layer in out_layers):
            raise ValueError(f"out_layers = {tuple(out_layers)}; expected blocks from {-depth} to {depth - 1}")
        self.out_layers = {layer % depth for layer in out_layers}
        self.patch_embed = LAYERS.build(
            patch_embed or dict(type="ThreeDPatchEmbedding"),
            default_args=dict(in_channels=in_channels, embed_dims=embed_dims, patch_size=tuple(patch_size)),
        )
        self.patch_size = self.patch_embed.patch_size
        self.position = self._build_position(position, img_size, embed_dims, num_heads)

        if region_layer is None:
            region_layer = depth // 2 if self.region_encoder.reads_features else 0
        if not 0 <= region_layer < depth:
            raise ValueError(f"region_layer = {region_layer}; expected 0 to {depth - 1}, the blocks of depth = {depth}")
        self.region_layer = region_layer
        if region_attention == "default":
            region_attention = dict(type="RegionAwareAttention")
        if not self.region_encoder.provides_regions:
            region_attention = None
        attentions = _per_block(attention or dict(type="SliceAwareAttention"), global_attention, global_blocks, depth)
        rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(
            LAYERS.build(
                block or dict(type="ThreeDTransformerBlock"),
                default_args=dict(
                    embed_dims=embed_dims,
                    num_heads=num_heads,
                    attention=attentions[i],
                    region_attention=region_attention if i >= region_layer else None,
                    mlp_ratio=mlp_ratio,
                    drop=drop,
                    drop_path=rates[i],
                    depth=depth,
                ),
            )
            for i in range(depth)
        )
        normalised = self.blocks[-1].ends_with_norm
        self.norm = nn.Identity() if normalised else nn.LayerNorm(embed_dims, eps=NORM_EPS)

    def _build_position(self, position: str | dict, img_size: tuple, embed_dims: int, num_heads: int) -> nn.Module:
        if isinstance(position, str):
            check_choice("ThreeDVisionEncoder", "position", position, POSITIONS)
            position = dict(type=POSITIONS[position])
        cls = position["type"] if isinstance(position["type"], type) else LAYERS.get(position["type"])
        # A name that is not registered is an error of build.
        wanted = getattr(cls, "sizes", Position3D.sizes)
        sizes: dict[str, object] = dict(embed_dims=embed_dims, head_dims=embed_dims // num_heads)
        if "base_grid" in wanted:
            sizes["base_grid"] = self.patch_embed.grid_of(tuple(img_size))
        return LAYERS.build(position, default_args={name: sizes[name] for name in wanted})

    def forward(
        self,
        volume_BCDHW: Tensor,
        region_map_BDHW: Tensor | None = None,
        spacing_B3: Tensor | None = None,
        anatomy: Anatomy | None = None,
    ) -> EncoderOutput:
        self.check_region_map(volume_BCDHW, region_map_BDHW)
        tokens_BNE = self.patch_embed(self.standardize(volume_BCDHW))
        ctx = self._context(volume_BCDHW, spacing_B3).with_anatomy(anatomy)
        if self.position.additive:
            tokens_BNE = tokens_BNE + self.position(ctx.grid, tokens_BNE)
        tokens_BNE = ctx.gather(tokens_BNE)
        tokens_BNE, encoding, levels = self._run_blocks(tokens_BNE, region_map_BDHW, ctx)
        return self.assemble(tokens_BNE, ctx, encoding, levels)

    def _context(self, volume_BCDHW: Tensor, spacing_B3: Tensor | None) -> TokenContext:
        grid = self.patch_embed.grid_of(tuple(volume_BCDHW.shape[2:]))
        spacing_B3 = self.token_spacing(volume_BCDHW, spacing_B3, grid)
        ctx = TokenContext.full(len(volume_BCDHW), grid, spacing_B3)
        if self.token_selection == "body":
            keep_BN = body_patches(volume_BCDHW[:, self.body_channel], grid)
            index_Bn, mask_Bn = kept_index(keep_BN)
            if index_Bn.shape[1] < ctx.num_cells:
                ctx = TokenContext(grid, index_Bn, mask_Bn, spacing_B3)
            elif not bool(keep_BN.all()):
                ctx = TokenContext(grid, ctx.index_BN, keep_BN, spacing_B3)
        if not self.position.additive:
            ctx = ctx.with_rotary(self.position(ctx))
        return ctx

    def _run_blocks(
        self, x_BNE: Tensor, region_map_BDHW: Tensor | None, ctx: TokenContext
    ) -> tuple[Tensor, RegionEncoding, list[Tensor]]:
        levels, encoding, pool = [], None, None
        for i, block in enumerate(self.blocks):
            if i == self.region_layer:
                encoding = self._assign(x_BNE, region_map_BDHW, ctx)
                ctx = ctx.with_regions(encoding.assignment, None)
                pool = self._pool(encoding.assignment)
            if self.use_checkpoint and self.training and torch.is_grad_enabled():
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
            # Padding owns no part of any region, so pooling needs no further mask.
            encoding.assignment = encoding.assignment * ctx.token_mask_BN[..., None]
        return encoding

    def _pool(self, assignment_BNR1: Tensor):
        return lambda x_BNE: self.region_encoder.region_tokens(x_BNE, assignment_BNR1)

    def _finish(self, x_BNE: Tensor, ctx: TokenContext) -> Tensor:
        x_BNE = self.norm(x_BNE)
        return x_BNE if ctx.token_mask_BN is None else x_BNE * ctx.token_mask_BN[..., None]


def _per_block(
    attention: dict | list[dict], global_attention: dict | None, global_blocks: tuple[int, ...], depth: int
) -> list[dict]:
    """The self-attention config of each block."""
    configs = list(attention) if isinstance(attention, (list, tuple)) else [attention] * depth
    if len(configs) != depth:
        raise ValueError(f"attention lists {len(configs)} configs for depth = {depth} blocks; give one, or one a block")
    if global_blocks and global_attention is None:
        raise ValueError(f"global_blocks = {tuple(global_blocks)} needs global_attention, the layer those blocks use")
    for i in global_blocks:
        configs[i] = global_attention
    return configs
