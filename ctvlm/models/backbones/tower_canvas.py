"""From a volume of ctvlm to the input of a tower, and from its features back to the patches of the volume."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.backbones.tower import InputConvention

# Relative difference of spacings that count as equal: files store them in single precision.
SAME_SPACING = 1e-4


@dataclass(frozen=True)
class AxisMap:
    """One axis of a canvas: voxel ``k`` is at ``start + step * k`` mm from the corner of the volume."""

    start: float
    step: float


def to_canvas(hu_DHW: Tensor, spacing_3: Tensor, convention: InputConvention) -> tuple[Tensor, list[AxisMap]]:
    """The input of a tower (1, C, X, Y, Z), and where its voxels are along each axis of the tower.

    The first voxels of volume and resampled volume have the same centre, as in MONAI's ``Spacing``. Nothing is
    cropped: a patch outside of the canvas would have no features.
    """
    volume = convention.window(hu_DHW.float()) if convention.window_first else hu_DHW.float()
    maps, before_after = [], []
    for tower_axis, axis in enumerate(convention.axes):
        given = float(spacing_3[axis])
        wanted = given if convention.spacing is None else convention.spacing[tower_axis]
        if abs(wanted / given - 1) > SAME_SPACING:
            volume = _resample(volume, axis, wanted / given)
        else:
            wanted = given
        size = volume.shape[axis]
        multiple = convention.multiple[tower_axis]
        padding = -(-max(size, convention.min_size[tower_axis]) // multiple) * multiple - size
        before = padding // 2
        before_after.append((before, padding - before))
        if convention.flipped[tower_axis]:
            maps.append(AxisMap(given / 2 + (size - 1 + before) * wanted, -wanted))
        else:
            maps.append(AxisMap(given / 2 - before * wanted, wanted))
    if not convention.window_first:
        volume = convention.window(volume)
    canvas_XYZ = volume.permute(convention.axes).flip([a for a in range(3) if convention.flipped[a]])
    pads = [pad for pair in reversed(before_after) for pad in pair]
    canvas_XYZ = F.pad(canvas_XYZ, pads, value=convention.values[0])
    return canvas_XYZ.expand(1, convention.channels, *canvas_XYZ.shape), maps


def from_canvas(
    features_Exyz: Tensor,
    maps: list[AxisMap],
    stride: tuple[int, int, int],
    first_center: tuple[float, float, float],
    axes: tuple[int, int, int],
    grid: tuple[int, int, int],
    patch_mm_3: Tensor,
) -> Tensor:
    """Features of the patches of a volume (d*h*w, E): linear in distance, averaged where patches are larger.

    Args:
        axes: axis of (z, y, x) that each axis of the features is.
        patch_mm_3: size of a patch in mm (z, y, x).
    """
    x = features_Exyz
    for tower_axis, axis in enumerate(axes):
        mapping = maps[tower_axis]
        step = mapping.step * stride[tower_axis]
        first = mapping.start + mapping.step * first_center[tower_axis]
        patch = float(patch_mm_3[axis])
        centers = (torch.arange(grid[axis], device=x.device) + 0.5) * patch
        weights_ps = _weights((centers - first) / step, x.shape[tower_axis + 1], max(1.0, patch / abs(step)))
        x = torch.movedim(torch.movedim(x, tower_axis + 1, -1) @ weights_ps.T.to(x.dtype), -1, tower_axis + 1)
    order = [axes.index(axis) + 1 for axis in range(3)]
    return x.permute(*order, 0).flatten(0, 2)


def _weights(index_p: Tensor, size: int, width: float) -> Tensor:
    """Weight of each of ``size`` features for points at the given indices: a triangle of half-width ``width``."""
    index_p = index_p.clamp(0, size - 1)
    weights_ps = (1 - (index_p[:, None] - torch.arange(size, device=index_p.device)).abs() / width).clamp(min=0)
    return weights_ps / weights_ps.sum(dim=1, keepdim=True)


def _resample(volume: Tensor, axis: int, ratio: float) -> Tensor:
    """Linear interpolation along an axis at the voxels 0, ratio, 2 ratio, ..."""
    size = volume.shape[axis]
    count = max(1, int((size - 1) / ratio + 1.5))
    index = (torch.arange(count, device=volume.device, dtype=torch.float64) * ratio).clamp(max=size - 1)
    low = index.long()
    part = (index - low).to(volume.dtype).view([-1 if a == axis else 1 for a in range(3)])
    high = (low + 1).clamp(max=size - 1)
    return torch.lerp(volume.index_select(axis, low), volume.index_select(axis, high), part)
