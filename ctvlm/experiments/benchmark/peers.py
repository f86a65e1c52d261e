"""Published encoders of the same size, from packages that are optional, and the literal form of the specification."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ctvlm.registry import BACKBONES, LAYERS
from ctvlm.utils import CTVLMError
from ctvlm.utils.memory import available_memory

if TYPE_CHECKING:
    from ctvlm.experiments.benchmark.subjects import ModelSize

# Peak memory of the literal form, in score matrices per block: logits, their product, softmax and one gradient.
LIVE_SCORES = 4
GIB = 2**30


class TimmBlocks(nn.Module):
    """The patch embedding of the first subject, and the blocks of a timm ViT."""

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        block = _module("timm.models.vision_transformer", "timm").Block
        self.patch_embed = LAYERS.build(dict(size.patch_embed), default_args=dict(embed_dims=size.width))
        self.position = nn.Parameter(torch.zeros(1, size.grid[0] * size.grid[1] * size.grid[2], size.width))
        self.blocks = nn.Sequential(
            *(block(size.width, size.heads, mlp_ratio=size.mlp_ratio, qkv_bias=True) for _ in range(size.depth))
        )
        self.norm = nn.LayerNorm(size.width)

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        return self.norm(self.blocks(self.patch_embed(volume_BCDHW) + self.position))


class MonaiViT(nn.Module):
    """MONAI's ViT; its tokens."""

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        self.vit = _module("monai.networks.nets", "monai").ViT(
            in_channels=size.channels,
            img_size=size.volume,
            patch_size=size.patch_size,
            hidden_size=size.width,
            mlp_dim=round(size.width * size.mlp_ratio),
            num_layers=size.depth,
            num_heads=size.heads,
            qkv_bias=True,
        )

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        return self.vit(volume_BCDHW)[0]


class SwinUNETREncoder(nn.Module):
    """Encoder of MONAI's SwinUNETR in its published size (width 48, patches of 2 voxels); its first-stage tokens."""

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        self.swin = _module("monai.networks.nets.swin_unetr", "monai").SwinTransformer(
            in_chans=size.channels,
            embed_dim=48,
            window_size=(7, 7, 7),
            patch_size=(2, 2, 2),
            depths=(2, 2, 2, 2),
            num_heads=(3, 6, 12, 24),
        )
        self.tokens = (size.volume[0] // 2) * (size.volume[1] // 2) * (size.volume[2] // 2)

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        # Every stage is used, so that the backward pass reaches all weights.
        first, *others = self.swin(volume_BCDHW)
        return first + sum(other.mean() for other in others)


def _spectre(size: ModelSize) -> nn.Module:
    transformer = _module("spectre.models.vision_transformer", "spectre-fm").VisionTransformer
    return transformer(
        img_size=size.volume,
        patch_size=size.patch_size,
        in_chans=size.channels,
        num_classes=0,
        global_pool="",
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
        mlp_ratio=size.mlp_ratio,
    )


def _literal(size: ModelSize) -> nn.Module:
    needed = sum(literal_memory(size).values())
    if needed > available_memory(torch.device("cpu")):
        raise CTVLMError(f"literal: needs about {needed / GIB:,.1f} GiB at {size.volume}; reduce --size or --tokens")
    return BACKBONES.build(
        dict(
            type="LiteralVisionEncoder",
            img_size=size.volume,
            embed_dims=size.width,
            depth=size.depth,
            num_regions=size.regions,
            patch_embed=dict(patch_size=size.patch_size, in_channels=1),
            block=dict(num_heads=size.heads, mlp_ratio=size.mlp_ratio),
        )
    )


def literal_memory(size: ModelSize, batch: int = 1) -> dict[str, int]:
    """Bytes of the dense tensors of one literal training step in fp32.

    Mask convolution (E x D x H x W) with its gradient, live scores (N x N) of one block, and kept scores of the others.
    """
    d, h, w = size.volume
    tokens = size.grid[0] * size.grid[1] * size.grid[2]
    scores = 4 * batch * size.heads * tokens**2
    return dict(
        mask_convolution=2 * 4 * batch * size.width * d * h * w,
        one_block=LIVE_SCORES * scores,
        kept_for_backward=size.depth * scores,
    )


# Name to: builder, reads a region map, reads one channel only.
PEERS: dict[str, tuple[Callable[[ModelSize], nn.Module], bool, bool]] = {
    "timm-blocks": (TimmBlocks, False, False),
    "monai-vit": (MonaiViT, False, False),
    "swin-unetr": (SwinUNETREncoder, False, False),
    "spectre": (_spectre, False, False),
    "literal": (_literal, True, True),
}


def load_peer(name: str, size: ModelSize) -> tuple[nn.Module, bool, int]:
    """Build a peer: the encoder, whether it reads a region map, and its number of input channels."""
    build, reads_map, one_channel = PEERS[name]
    return build(size), reads_map, 1 if one_channel else size.channels


def _module(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CTVLMError(f"{package} is not installed ({error}): pip install {package}") from error
