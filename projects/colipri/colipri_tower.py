"""COLIPRI's image encoder (Primus-M) as a tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from ctvlm.models.backbones import InputConvention, Tower
from ctvlm.models.layers import AttentionPool
from ctvlm.registry import TOWERS

Triple = tuple[int, int, int]
# Lowest frequency of the rotary positions is 1 / TEMPERATURE.
TEMPERATURE = 10000.0


def rotary_table(grid: Triple, head_dims: int, device: torch.device) -> Tensor:
    """Sine and cosine of the places of a grid (N, 2 * head_dims): a third of the features for each axis."""
    bands = head_dims // 6
    frequencies = TEMPERATURE ** (-torch.arange(bands, device=device, dtype=torch.float32) / bands)
    axes = [torch.arange(size, device=device, dtype=torch.float32) for size in grid]
    places_N3 = torch.stack(torch.meshgrid(axes, indexing="ij"), dim=-1).flatten(0, 2)
    angles = (places_N3[:, :, None] * frequencies).flatten(1).repeat_interleave(2, dim=1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class PrimusEncoder(nn.Module):
    """Patches, EVA blocks with rotary positions in 3D, and a norm (arXiv 2503.01835), without the decoder.

    The names of the weights are those below ``image_encoder.backbone.`` of the published file. Positions count
    patches, so that every grid can be encoded; the published network takes one size only.
    """

    def __init__(self, embed_dims: int, depth: int, num_heads: int, patch_size: Triple) -> None:
        super().__init__()
        self.head_dims = embed_dims // num_heads
        if embed_dims % num_heads or self.head_dims % 6:
            raise ValueError(f"embed_dims / num_heads = {embed_dims / num_heads}; expected a multiple of 6")
        blocks = nn.ModuleList(
            EvaBlock(
                embed_dims,
                num_heads,
                qkv_fused=False,
                mlp_ratio=4 * 2 / 3,
                swiglu_mlp=True,
                scale_mlp=True,
                scale_attn_inner=True,
                num_prefix_tokens=0,
                init_values=0.1,
                norm_layer=nn.LayerNorm,
            )
            for _ in range(depth)
        )
        self.down_projection = nn.ModuleDict({"proj": nn.Conv3d(1, embed_dims, patch_size, patch_size)})
        self.eva = nn.ModuleDict({"blocks": blocks, "norm": nn.LayerNorm(embed_dims)})

    def forward(self, volume_B1XYZ: Tensor) -> Tensor:
        """Features of the patches (B, E, x, y, z)."""
        x_BExyz = self.down_projection["proj"](volume_B1XYZ)
        first, second, third = x_BExyz.shape[2:]
        table = rotary_table((first, second, third), self.head_dims, x_BExyz.device)
        x_BNE = x_BExyz.flatten(2).transpose(1, 2)
        for block in self.eva["blocks"]:
            x_BNE = block(x_BNE, rope=table)
        return self.eva["norm"](x_BNE).transpose(1, 2).reshape(x_BExyz.shape)


class ColipriHead(nn.Module):
    """Projection of the patches and attention pooling, with the names below ``image_encoder.``."""

    def __init__(self, embed_dims: int, out_dims: int, num_heads: int) -> None:
        super().__init__()
        self.projector = nn.Conv3d(embed_dims, out_dims, 1)
        self.pooler = AttentionPool(out_dims, num_heads)

    def forward(self, features_BExyz: Tensor) -> Tensor:
        return self.pooler(self.projector(features_BExyz).flatten(2).transpose(1, 2))


@TOWERS.register_module()
class ColipriTower(Tower):
    """The patch tokens of COLIPRI's image encoder after the last norm: 864 features, 8 voxels apart.

    Key prefixes of the published file: ``image_encoder.backbone.``, and ``image_encoder.`` for the head. The defaults
    are COLIPRI-CRM.

    Args:
        img_size: voxels of the training; smaller volumes are padded to it.
        orientation: axes of the input: ``SAR`` in the model card and in versions 0.1.0 and 0.1.1 of the package,
            ``RAS`` in its later versions.
        spacing: mm per voxel; ``None``: that of the input.
        out_dims: width of the published embedding of a volume (768), which is pooled with ``num_heads`` heads;
            ``None``: without its head.
    """

    def __init__(
        self,
        embed_dims: int = 864,
        depth: int = 16,
        num_heads: int = 12,
        img_size: Triple = (192, 192, 192),
        patch_size: Triple = (8, 8, 8),
        orientation: str = "SAR",
        spacing: tuple[float, float, float] | None = (2.0, 2.0, 2.0),
        out_dims: int | None = None,
    ) -> None:
        patch = tuple(patch_size)
        net = PrimusEncoder(embed_dims, depth, num_heads, patch)
        convention = InputConvention(
            orientation,
            spacing,
            hu=(-1000.0, 1000.0),
            values=(-1.0, 1.0),
            multiple=patch,
            min_size=tuple(img_size),
            keeps="center",
            odd_first=True,
        )
        head = None if out_dims is None else ColipriHead(embed_dims, out_dims, num_heads)
        super().__init__(net, embed_dims, convention, patch, head=head)

    def forward(self, volume_BCXYZ: Tensor) -> Tensor:
        return self.net(volume_BCXYZ)

    def stages(self) -> Sequence[nn.Module]:
        blocks = list(self.net.eva["blocks"])
        return [*blocks[:-1], nn.ModuleList([blocks[-1], self.net.eva["norm"]])]

    def from_published(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without the token of masked patches and the decoder."""
        return {k: v for k, v in weights.items() if k != "mask_token" and not k.startswith("up_projection.")}

    def head_from_published(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without the backbone, whose names start with the same prefix."""
        return {k: v for k, v in weights.items() if not k.startswith("backbone.")}
