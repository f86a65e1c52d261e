"""Encoders to measure: the backbone of a config, a registered encoder, or a published peer of the same size."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ctvlm.engine.cli.config import config_path, load_config
from ctvlm.engine.cli.config_error import ConfigError
from ctvlm.engine.compile_encoder import compile_backbone
from ctvlm.experiments.benchmark.peers import PEERS, load_peer
from ctvlm.models.backbones.three_d_vision_encoder import PATCH_EMBED
from ctvlm.registry import BACKBONES
from ctvlm.structures import EncoderOutput
from ctvlm.utils import CTVLMError

# A registered encoder without a config has the size of this one.
DEFAULT_CONFIG = "vit3d_cot_contrastive"
Grid = tuple[int, int, int]


@dataclass(frozen=True)
class ModelSize:
    """Sizes that all subjects share.

    Attributes:
        volume: D, H, W in voxels.
        patch_embed: config of the patch embedding.
    """

    volume: Grid
    width: int
    depth: int
    heads: int
    mlp_ratio: float
    regions: int
    patch_embed: Mapping[str, Any]

    @classmethod
    def of(cls, backbone: Mapping[str, Any]) -> ModelSize:
        """Sizes of a backbone config; what it leaves out has the default of ThreeDVisionEncoder."""
        block = backbone.get("block") or {}
        return cls(
            volume=tuple(backbone.get("img_size", (64, 512, 512))),
            width=backbone.get("embed_dims", 768),
            depth=backbone.get("depth", 12),
            heads=block.get("num_heads", 12),
            mlp_ratio=block.get("mlp_ratio", 4.0),
            regions=backbone.get("num_regions", 20),
            patch_embed={**PATCH_EMBED, **(backbone.get("patch_embed") or {})},
        )

    @property
    def patch_size(self) -> Grid:
        """Voxels per token."""
        return tuple(self.patch_embed["patch_size"])

    @property
    def channels(self) -> int:
        """Intensity windows of the input."""
        return self.patch_embed["in_channels"]

    @property
    def grid(self) -> Grid:
        """Patches along z, y and x."""
        d, h, w = (size // patch for size, patch in zip(self.volume, self.patch_size))
        return d, h, w

    def with_tokens(self, tokens: int) -> ModelSize:
        """The same model with another number of patches: all slices of the grid, with a plane as square as possible.

        Raises:
            CTVLMError: the slices do not divide the number.
        """
        slices = self.grid[0]
        if tokens < slices or tokens % slices:
            raise CTVLMError(f"--tokens {tokens}: expected a multiple of {slices}, the slices of the patch grid")
        plane = tokens // slices
        rows = next(n for n in range(math.isqrt(plane), 0, -1) if plane % n == 0)
        d, h, w = (n * patch for n, patch in zip((slices, rows, plane // rows), self.patch_size))
        return replace(self, volume=(d, h, w))


@dataclass
class Subject:
    """An encoder under measurement.

    Attributes:
        reads_map: whether it reads a region map.
        channels: intensity windows that it reads.
    """

    name: str
    encoder: nn.Module
    reads_map: bool
    channels: int

    def run(self, volume_BCDHW: Tensor, region_map_BDHW: Tensor) -> tuple[int, Tensor]:
        """Forward pass. Returns the number of tokens per case, and a scalar that depends on every output."""
        volume_BCDHW = volume_BCDHW[:, : self.channels]
        if getattr(self.encoder, "reads_hu", False):  # as in a model: what is dropped is neither windowed nor embedded
            out = self.encoder(volume_BCDHW[:, :1], region_map_BDHW, window=self._window)
        else:
            out = self.encoder(volume_BCDHW, region_map_BDHW) if self.reads_map else self.encoder(volume_BCDHW)
        if isinstance(out, EncoderOutput):
            return out.tokens.shape[1], out.tokens.square().mean() + out.region_tokens.square().mean()
        tokens = out.shape[1] if out.ndim == 3 else out[0, 0].numel()
        return tokens, out.square().mean()

    def _window(self, values_M1DHW: Tensor) -> Tensor:
        """In place of intensity windows: the values are in [0, 1] already."""
        return values_M1DHW.repeat(1, self.channels, 1, 1, 1)


def backbone_of(name: str) -> dict[str, Any]:
    """Backbone config of a config, or of a registered encoder at the size of the default config.

    Raises:
        ConfigError: there is neither a config nor an encoder of this name, or the config has no ``model.backbone``.
    """
    registered = name.isidentifier() and BACKBONES.get(name) is not None
    path = config_path(DEFAULT_CONFIG if registered else name)
    cfg = load_config(path)
    backbone = cfg.get("model", {}).get("backbone")
    if backbone is None:
        raise ConfigError(f"config {name} has no model.backbone; expected a config with an encoder")
    if not registered:
        return backbone.to_dict()
    size = ModelSize.of(backbone)
    return dict(
        type=name,
        img_size=size.volume,
        embed_dims=size.width,
        depth=size.depth,
        patch_embed=dict(size.patch_embed),
        block=dict(num_heads=size.heads, mlp_ratio=size.mlp_ratio),
    )


def build_subject(name: str, size: ModelSize, backbone: Mapping[str, Any] | None = None) -> Subject:
    """Build a peer, or the encoder of a backbone config with the volume of ``size``.

    Raises:
        CTVLMError: unknown peer, missing package, literal form that does not fit into memory, or an encoder that does
            not have these arguments.
    """
    torch.manual_seed(0)
    if backbone is None:
        encoder, reads_map, channels = load_peer(name, size)
        return Subject(name, encoder, reads_map, channels)
    try:
        encoder = BACKBONES.build({**backbone, "img_size": size.volume})
    except TypeError as error:
        raise CTVLMError(f"{name} cannot be built with {dict(backbone)}: {error}; use a config") from error
    return Subject(name, encoder, True, backbone.get("patch_embed", {}).get("in_channels", size.channels))


def compiled(subject: Subject) -> Subject:
    """The same encoder with ``torch.compile``, see compile_backbone."""
    encoder = copy.deepcopy(subject.encoder)
    compile_backbone(encoder)
    return replace(subject, name=f"{subject.name}, compiled", encoder=encoder)


def check_peers(names: list[str]) -> None:
    """Raise CTVLMError for the first name that is not a peer."""
    for name in names:
        if name not in PEERS:
            raise CTVLMError(f"--against {name}: unknown; expected some of {', '.join(PEERS)}")
