"""Plausibility of a region map for its CT. Detects a wrong source version and exchanged sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctvlm.anatomy.scheme import RegionScheme

# Smaller regions may be truncated by the border of the scan.
MIN_VOXELS = 200


@dataclass(frozen=True)
class RegionCheck:
    """Regions that were checked.

    Attributes:
        checked: names of the regions with a known range of HU or a partner on the other side, if they are in the map.
        problems: name of each implausible region to its messages.
    """

    checked: tuple[str, ...]
    problems: dict[str, list[str]]

    @property
    def messages(self) -> list[str]:
        """All messages."""
        return [message for messages in self.problems.values() for message in messages]


def check_regions(scheme: RegionScheme, region_map: np.ndarray, hu: np.ndarray, affine: np.ndarray) -> RegionCheck:
    """Find regions whose mean HU or side of the body contradicts their name.

    Args:
        region_map: region ids (D, H, W).
        hu: the CT on the same grid.
        affine: 4x4, voxel (x, y, z) to RAS+ mm.
    """
    # Every second voxel of a large scan is sufficient for a mean.
    step = 2 if region_map.size > 4_000_000 else 1
    region_map, hu = region_map[::step, ::step, ::step], hu[::step, ::step, ::step]
    counts = np.bincount(region_map.ravel(), minlength=scheme.num_regions + 1)
    present = [r for r in scheme.regions if counts[r.id] >= MIN_VOXELS]
    means = ndimage.mean(hu, region_map, [r.id for r in present])
    checked = {r.name for r in present if r.hu}
    problems: dict[str, list[str]] = {}
    for r, mean in zip(present, means, strict=True):
        if r.hu and not r.hu[0] <= mean <= r.hu[1]:
            problems.setdefault(r.name, []).append(
                f"region {r.name!r} has a mean of {mean:.0f} HU; expected {r.hu[0]:g} to {r.hu[1]:g}. Check the "
                "declared source of the region map."
            )
    boxes = ndimage.find_objects(region_map, max_label=scheme.num_regions)
    for right in present:
        left = scheme[right.partner] if "right" in right.name and right.partner else None
        if left is None or left.partner != right.id or left not in present:
            continue
        checked |= {right.name, left.name}
        # RAS+: x grows to the patient's right. The first row of the affine gives x from the three indices.
        x = [affine[0, :3] @ [(s.start + s.stop) / 2 for s in boxes[r.id - 1][::-1]] for r in (right, left)]
        if x[0] < x[1]:
            problems.setdefault(right.name, []).append(
                f"{right.name!r} is to the left of {left.name!r}: the region map or its header is mirrored"
            )
    return RegionCheck(tuple(r.name for r in present if r.name in checked), problems)
