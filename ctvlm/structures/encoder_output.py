"""Output of a vision encoder."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class EncoderOutput:
    """Features of a batch of volumes, on the full patch grid ``grid = (d, h, w)``, N = d*h*w.

    Attributes:
        tokens: patch features (B, N, E), flattened z-major; zero where ``token_mask`` is False.
        token_mask: True for encoded patches (B, N); False for patches dropped by body selection.
        positions: patch centres in mm, z y x, from the first voxel's corner (B, N, 3).
        region_tokens: region features (B, R, E); zero for a region that is not in the volume.
        patch_to_region: assignment (B, N, R + 1), rows sum to 1; column 0 is background, column r is
            region id r.
        grid: (d, h, w).
        levels: features of several depths for a pyramid, each (B, N, E), shallow to deep.
        region_logits: patch-to-region logits (B, N, R + 1) if the encoder predicts regions.
        region_presence: regions in the volume (B, R) according to the region encoder; ``None``: derived from
            ``patch_to_region``.
    """

    tokens: Tensor
    token_mask: Tensor
    positions: Tensor
    region_tokens: Tensor
    patch_to_region: Tensor
    grid: tuple[int, int, int]
    levels: list[Tensor] = field(default_factory=list)
    region_logits: Tensor | None = None
    region_presence: Tensor | None = None

    @property
    def region_mask(self) -> Tensor:
        """True for regions that are in the volume (B, R): ``region_presence``, or else by ``patch_to_region``."""
        return present_regions(self.patch_to_region) if self.region_presence is None else self.region_presence


def present_regions(assignment_BNR1: Tensor) -> Tensor:
    """True for regions that cover more than 0.05 patches in total (B, R).

    Valid for exact shares only: a predicted assignment gives every region more than that.
    """
    return assignment_BNR1[..., 1:].sum(dim=1) > 0.05
