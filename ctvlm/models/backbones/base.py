"""Base class of vision encoders: checks, geometry and the assembly of the output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn as nn
from torch import Tensor

from ctvlm.models.layers import check_channels
from ctvlm.models.region_encoders import RegionEncoding
from ctvlm.registry import REGION_ENCODERS
from ctvlm.structures import Anatomy, EncoderOutput, TokenContext

# Region logits of a patch that was dropped before the blocks, with 0 for background.
DROPPED_LOGIT = -20.0


class VisionEncoder(nn.Module, ABC):
    """Base class of vision encoders.

    ``forward(volume_BCDHW, region_map_BDHW=None, spacing_B3=None, anatomy=None)`` returns an EncoderOutput.
    ``spacing_B3`` is in mm (z, y, x) per voxel, 1 mm by default. ``anatomy`` is the overlap of the patches with
    ``region_map_BDHW``; if it is given, region encoders do not compute it again.

    Attributes:
        reads_hu: True if ``forward`` also takes ``window``, a function from HU (M, 1, D, H, W) to the channels
            (M, C, D, H, W), and ``context``, the result of ``token_context(volume, spacing, window, visible)``. The
            volume is then in HU (B, 1, D, H, W), and the encoder windows only what it reads.

    Args:
        region_encoder: config of a region encoder; default SoftOverlapRegionEncoder.
        normalize: ``dict(mean=..., std=...)``, one value per channel: the input becomes ``(input - mean) / std``.
            ``None``: the input is used as it is, in [0, 1].
    """

    reads_hu: bool = False
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        embed_dims: int,
        num_regions: int,
        region_encoder: dict | None,
        in_channels: int,
        normalize: dict | None = None,
    ) -> None:
        super().__init__()
        given = dict(normalize or {})
        if unknown := set(given) - {"mean", "std"}:
            raise ValueError(f"normalize has the keys {sorted(unknown)}; expected mean and std")
        for name, neutral in (("mean", 0.0), ("std", 1.0)):
            values = list(given.get(name) or [neutral] * in_channels)
            if len(values) != in_channels:
                raise ValueError(
                    f"normalize.{name} = {values}; expected one value for each of in_channels = {in_channels}"
                )
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1, 1), persistent=False)
        self.embed_dims = embed_dims
        self.num_regions = num_regions
        self.region_encoder = REGION_ENCODERS.build(
            region_encoder or dict(type="SoftOverlapRegionEncoder"),
            default_args=dict(embed_dims=embed_dims, num_regions=num_regions),
        )

    @abstractmethod
    def forward(
        self,
        volume_BCDHW: Tensor,
        region_map_BDHW: Tensor | None = None,
        spacing_B3: Tensor | None = None,
        anatomy: Anatomy | None = None,
    ) -> EncoderOutput: ...

    def standardize(self, volume_BCDHW: Tensor) -> Tensor:
        """The normalised input of the first layer."""
        check_channels(volume_BCDHW, self.mean.shape[1])
        return (volume_BCDHW - self.mean).div_(self.std)

    def check_region_map(self, volume_BCDHW: Tensor, region_map_BDHW: Tensor | None) -> None:
        """Raise a ValueError if map and volume differ in size."""
        if region_map_BDHW is None:
            return
        expected = (volume_BCDHW.shape[0], *volume_BCDHW.shape[2:])
        if tuple(region_map_BDHW.shape) != expected:
            raise ValueError(
                f"the region map has shape {tuple(region_map_BDHW.shape)}, but the volume has "
                f"{tuple(volume_BCDHW.shape)}; expected a map of shape (B, D, H, W) = {expected}. Apply the same "
                "resampling and cropping to both."
            )

    def select_patches(
        self, volumes: Iterable[Tensor], grid: tuple[int, int, int], window: Callable[[Tensor], Tensor]
    ) -> Tensor | None:
        """Patches that become tokens (B, N) of volumes in HU (1, D, H, W), on their device; None: all."""
        return None

    @staticmethod
    def token_spacing(volume_BCDHW: Tensor, spacing_B3: Tensor | None, grid: tuple[int, int, int]) -> Tensor:
        """Distance between neighbouring tokens in mm (B, 3), on the device of the volume."""
        spacing_B3 = host_token_spacing(volume_BCDHW.shape, spacing_B3, grid)
        return spacing_B3.to(volume_BCDHW.device, non_blocking=True)

    def assemble(
        self, tokens_BNE: Tensor, ctx: TokenContext, encoding: RegionEncoding, levels: list[Tensor]
    ) -> EncoderOutput:
        """Scatter tokens, assignment and levels to the full grid."""
        assignment_BNR1 = encoding.assignment
        region_tokens_BRE = self.region_encoder.region_tokens(tokens_BNE, assignment_BNR1)
        background = _background_row(assignment_BNR1, 0.0)
        logits_BNR1 = encoding.logits
        if logits_BNR1 is not None:
            logits_BNR1 = ctx.scatter(logits_BNR1, _background_row(logits_BNR1, DROPPED_LOGIT))
        everything = TokenContext.full(tokens_BNE.shape[0], ctx.grid, ctx.spacing_B3)
        output = EncoderOutput(
            tokens=ctx.scatter(tokens_BNE),
            token_mask=ctx.full_mask(),
            positions=everything.positions_BN3,
            region_tokens=region_tokens_BRE,
            patch_to_region=ctx.scatter(assignment_BNR1, background),
            grid=ctx.grid,
            levels=[ctx.scatter(level_BNE) for level_BNE in levels],
            region_logits=logits_BNR1,
            region_presence=encoding.presence,
        )
        output.region_tokens = region_tokens_BRE * output.region_mask[..., None]
        return output


def host_token_spacing(volume_shape: Sequence[int], spacing_B3: Tensor | None, grid: tuple[int, int, int]) -> Tensor:
    """``VisionEncoder.token_spacing`` on the host, where ``spacing_B3`` should be: it is checked.

    Raises:
        ValueError: another shape than (B, 3), or a spacing that is not positive.
    """
    batch = volume_shape[0]
    if spacing_B3 is None:
        spacing_B3 = torch.ones(batch, 3)
    spacing_B3 = spacing_B3.cpu()
    # Values are not known while a graph is exported.
    positive = torch.compiler.is_compiling() or bool((spacing_B3 > 0).all())
    if tuple(spacing_B3.shape) != (batch, 3) or not positive:
        raise ValueError(
            f"spacing has shape {tuple(spacing_B3.shape)}; expected ({batch}, 3), positive mm per voxel (z, y, x)"
        )
    patch_3 = torch.tensor([s // g for s, g in zip(volume_shape[2:], grid)])
    return (spacing_B3 * patch_3).float()


def _background_row(like: Tensor, other: float) -> Tensor:
    """(R + 1,): background 1 and ``other`` 0, or background 0 and ``other`` a negative logit."""
    row = like.new_full((like.shape[-1],), other)
    row[0] = 1.0 if other == 0.0 else 0.0
    return row
