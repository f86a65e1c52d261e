"""From region logits on a coarse grid to a label map on the volume's grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ctvlm.structures import CTDataSample

SLICES = 8  # at a time: all logits of a 64x512x512 volume at full resolution would take 1.4 GB


def region_map_of(logits_Rdhw: Tensor, size: Sequence[int]) -> Tensor:
    """Most likely region of each voxel (D, H, W), uint8, from logits (R + 1, d, h, w) interpolated trilinearly."""
    depth, *plane = size
    old = logits_Rdhw.shape[1]
    # Centres of the new slices among the old ones, as F.interpolate(align_corners=False) has them.
    at_D = (torch.arange(depth, device=logits_Rdhw.device) + 0.5) * (old / depth) - 0.5
    at_D = at_D.clamp(0, old - 1)
    below_D = at_D.long()
    above_D, share_D = (below_D + 1).clamp(max=old - 1), (at_D - below_D).to(logits_Rdhw.dtype)
    labels = []
    for below, above, share in zip(*(x.split(SLICES) for x in (below_D, above_D, share_D))):
        part_Rshw = torch.lerp(logits_Rdhw[:, below], logits_Rdhw[:, above], share[:, None, None])
        part_sRHW = F.interpolate(part_Rshw.transpose(0, 1), tuple(plane), mode="bilinear", align_corners=False)
        labels.append(part_sRHW.argmax(dim=1).to(torch.uint8))
    return torch.cat(labels)


def add_region_maps(logits_BRdhw: Tensor, volume_BCDHW: Tensor, data_samples: Sequence[CTDataSample]) -> None:
    """Write each case's ``pred_region_map`` (D, H, W), uint8, on the grid of its volume."""
    for logits_Rdhw, sample in zip(logits_BRdhw.float(), data_samples):
        sample.pred_region_map = region_map_of(logits_Rdhw, volume_BCDHW.shape[2:]).cpu()
