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


def to_canvas(
    hu_DHW: Tensor, spacing_3: Tensor, convention: InputConvention, crop: bool = False
) -> tuple[Tensor, list[AxisMap]]:
    """The input of a tower (1, C, X, Y, Z), and where its voxels are along each axis of the tower.

    Args:
        crop: crop larger volumes to ``min_size``, as the published embedding of a volume needs. Else nothing is
            cropped: a patch outside of the canvas would have no features.
    """
    volume = convention.window(hu_DHW.float()) if convention.window_first else hu_DHW.float()
    maps, before_after = [], []
    for tower_axis, axis in enumerate(convention.axes):
        given = float(spacing_3[axis])
        wanted = given if convention.spacing is None else convention.spacing[tower_axis]
        start, step = 0.0, 1.0  # in voxels of the input
        if abs(wanted / given - 1) > SAME_SPACING:
            count, start, step = _resampled(volume.shape[axis], given, wanted, convention.keeps)
            volume = _resample(volume, axis, count, start, step)
        size = volume.shape[axis]
        before, after = _padding(size, tower_axis, convention, crop)
        before_after.append((before, after))
        first_mm, step_mm = (start + 0.5) * given, step * given
        if convention.flipped[tower_axis]:
            maps.append(AxisMap(first_mm + (size - 1 + before) * step_mm, -step_mm))
        else:
            maps.append(AxisMap(first_mm - before * step_mm, step_mm))
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


def _padding(size: int, axis: int, convention: InputConvention, crop: bool) -> tuple[int, int]:
    """Voxels to add in front of an axis and behind it; a negative number is cropped."""
    smallest, multiple = convention.min_size[axis], convention.multiple[axis]
    wanted = smallest if crop else max(size, smallest)
    padding = -(-wanted // multiple) * multiple - size
    smaller = int(padding / 2)  # rounded towards 0, also for a crop
    return (padding - smaller, smaller) if convention.odd_first else (smaller, padding - smaller)


def _resampled(size: int, given: float, wanted: float, keeps: str) -> tuple[int, float, float]:
    """Number of voxels of a resampled axis, and where the first one is, and their distance, in voxels of the input."""
    if keeps == "first":
        return max(1, int((size - 1) * given / wanted + 1.5)), 0.0, wanted / given
    # Files store spacings in single precision: 100 voxels must not become 99.
    count = max(1, int(size * (given / wanted) * (1 + 1e-6)))
    step = size / count if keeps == "border" else wanted / given
    return count, (size - 1) / 2 - (count - 1) / 2 * step, step


def _resample(volume: Tensor, axis: int, count: int, start: float, step: float) -> Tensor:
    """Linear interpolation along an axis at the voxels start, start + step, ...; the borders are repeated."""
    index = start + torch.arange(count, device=volume.device, dtype=torch.float64) * step
    index = index.clamp(0, volume.shape[axis] - 1)
    low = index.long()
    part = (index - low).to(volume.dtype).view([-1 if a == axis else 1 for a in range(3)])
    high = (low + 1).clamp(max=volume.shape[axis] - 1)
    return torch.lerp(volume.index_select(axis, low), volume.index_select(axis, high), part)
