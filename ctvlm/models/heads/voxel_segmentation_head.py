"""Which region each voxel lies in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.heads.region_map import add_region_maps
from ctvlm.models.heads.segmentation_head import nothing_known
from ctvlm.models.region_encoders.overlap import patch_overlap
from ctvlm.registry import HEADS, LOSSES, NECKS
from ctvlm.structures import Anatomy, CTDataSample, EncoderOutput
from ctvlm.volume.windows import apply_windows, resolve_window


@HEADS.register_module()
class VoxelSegmentationHead(nn.Module):
    """Pyramid features and the image to region logits on cells finer than patches.

    The maps of a FeaturePyramid3D, summed at the finest (as in Panoptic FPN, Kirillov et al., 2019), say what is
    roughly where; mean, smallest and largest intensity of each cell, through a residual 3x3x3 convolution, say where
    it ends. Loss and targets live on the cells (exact shares of regions, not votes); a prediction interpolates
    the logits to voxels. Cells as fine as voxels are legal: (4, 16, 16) as scale of patches of that size.

    Args:
        pyramid: config of the neck. A cell is a patch divided by the first, finest scale.
        dims: width of the maps and of the convolutions.
        windows: of the intensities, names or (centre, width) in HU.

    Raises:
        ValueError: in ``terms``, a volume that the cells do not divide.
    """

    def __init__(
        self,
        in_dims: int,
        num_regions: int = 20,
        dims: int = 32,
        pyramid: dict | None = None,
        windows: Sequence[str | tuple[float, float]] = ("lung", "soft_tissue", "bone"),
        loss: dict | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_regions = num_regions
        self.windows = [resolve_window(window) for window in windows]
        self.pyramid = NECKS.build(
            pyramid or dict(type="FeaturePyramid3D", scales=((2, 4, 4), (1, 1, 1))),
            default_args=dict(in_dims=in_dims, out_dims=dims),
        )
        self.stem = nn.Conv3d(3 * len(self.windows), dims, kernel_size=1)
        self.refine = nn.Sequential(
            nn.GroupNorm(1, dims), nn.Conv3d(dims, dims, kernel_size=3, padding=1), nn.GELU(),
            nn.Conv3d(dims, dims, kernel_size=1),
        )  # fmt: skip
        self.classify = nn.Sequential(nn.GroupNorm(1, dims), nn.Conv3d(dims, num_regions + 1, kernel_size=1))
        self.loss = LOSSES.build(loss or dict(type="SegmentationLoss"))
        self.loss_weight = loss_weight

    def forward(self, encoded: EncoderOutput, hu_B1DHW: Tensor) -> Tensor:
        """Region logits (B, R + 1, d', h', w') on the pyramid's finest grid."""
        x_BEdhw, *coarser = self.pyramid(encoded)
        for map_BEdhw in coarser:
            size = x_BEdhw.shape[2:]
            x_BEdhw = x_BEdhw + F.interpolate(map_BEdhw, size, mode="trilinear", align_corners=False)
        x_BEdhw = x_BEdhw + self.stem(self._intensities(hu_B1DHW, x_BEdhw.shape[2:]).to(x_BEdhw))
        return self.classify(x_BEdhw + self.refine(x_BEdhw))

    def _intensities(self, hu_B1DHW: Tensor, size: Sequence[int]) -> Tensor:
        """Mean, largest and smallest value of each cell in each window (B, 3 C, d', h', w')."""
        parts = []
        for hu_1DHW in hu_B1DHW:  # windowed case by case: C float channels of a batch of CTs would be large
            volume_CDHW = apply_windows(hu_1DHW, self.windows)[0]
            high, low = (F.adaptive_max_pool3d(sign * volume_CDHW, tuple(size)) for sign in (1, -1))
            parts.append(torch.cat([F.adaptive_avg_pool3d(volume_CDHW, tuple(size)), high, -low]))
        return torch.stack(parts)

    def terms(
        self, encoded: EncoderOutput, anatomy: Anatomy | None, inputs: dict, data_samples: list[CTDataSample]
    ) -> Tensor:
        """Sum and count (2) of the loss over cells whose region is known."""
        logits_BRdhw = self(encoded, inputs["volume"])
        if inputs.get("region_map") is None:
            return nothing_known(logits_BRdhw)
        grid = tuple(logits_BRdhw.shape[2:])
        shares_BNR1, known_BN = patch_overlap(inputs["region_map"], grid, self.num_regions)
        return self.loss(logits_BRdhw.flatten(2).transpose(1, 2), shares_BNR1, known_BN > 0)

    @torch.no_grad()
    def predict(self, encoded: EncoderOutput, inputs: dict, data_samples: list[CTDataSample]) -> None:
        """Write ``pred_region_map``."""
        add_region_maps(self(encoded, inputs["volume"]), inputs["volume"], data_samples)
