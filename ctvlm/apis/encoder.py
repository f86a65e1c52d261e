"""The vision encoder of a model alone, from HU to features: for export and for other libraries."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EncoderFeatures(NamedTuple):
    """Output of CTEncoder.

    Attributes:
        volume: unit embedding of the volume in the shared space (B, P).
        regions: unit embeddings of the regions (B, R, P).
        region_mask: True for regions that are in the volume (B, R).
        tokens: patch features (B, N, E), flattened z-major; zero for air outside the body.
        token_mask: False for air outside the body (B, N).
        patch_to_region: share of each region in each patch (B, N, R + 1), column 0 is background.
    """

    volume: Tensor
    regions: Tensor
    region_mask: Tensor
    tokens: Tensor
    token_mask: Tensor
    patch_to_region: Tensor


class CTEncoder(nn.Module):
    """Windows, vision encoder and projections of a model, without its text encoder and objectives.

    ``forward(hu_B1DHW, spacing_B3)`` returns the fields of EncoderFeatures as a plain tuple, for export. D, H, W are
    (z, y, x) in RAS+ order, the spacing is in mm (z, y, x). There is no region map, so a model that predicts regions is
    needed for region features.

    Args:
        model: a model of ``init_model``; it shares its weights.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        parts: Any = model
        self.data_preprocessor = parts.data_preprocessor
        self.backbone = parts.backbone
        self.space = parts.space
        self.eval()

    def forward(self, hu_B1DHW: Tensor, spacing_B3: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.features(hu_B1DHW, spacing_B3))

    def features(self, hu_B1DHW: Tensor, spacing_B3: Tensor) -> EncoderFeatures:
        """The output by name."""
        encoded = self.encode(hu_B1DHW, spacing_B3)
        regions = self.space.embed_regions(encoded)
        return EncoderFeatures(
            volume=F.normalize(self.space.embed_volume(encoded, regions), dim=-1),
            regions=F.normalize(regions[1], dim=-1),
            region_mask=regions[2],
            tokens=encoded.tokens,
            token_mask=encoded.token_mask,
            patch_to_region=encoded.patch_to_region,
        )

    def encode(self, hu_B1DHW: Tensor, spacing_B3: Tensor) -> Any:
        """The EncoderOutput of the backbone."""
        return self.backbone(self.data_preprocessor.window(hu_B1DHW), None, spacing_B3)


def example_input(shape: tuple[int, int, int], batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """HU (B, 1, D, H, W) of noisy ellipses of different sizes in air, and spacings (B, 3) in mm."""
    generator = torch.Generator().manual_seed(seed)
    axes = [torch.linspace(-1, 1, size) for size in shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    sizes_B = 0.5 + 0.4 * torch.arange(batch) / max(batch - 1, 1)
    inside_BDHW = (y**2 + x**2)[None].expand(batch, *shape) < sizes_B[:, None, None, None] ** 2
    tissue_BDHW = 40 + 300 * torch.randn(batch, *shape, generator=generator) + 100 * z
    hu_BDHW = torch.where(inside_BDHW, tissue_BDHW, torch.tensor(-1000.0))
    return hu_BDHW[:, None], 1 + 3 * torch.rand(batch, 3, generator=generator)
