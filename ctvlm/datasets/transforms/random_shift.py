"""Random shift relative to the patch grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ctvlm.datasets.transforms.region_kept import record_region_kept
from ctvlm.registry import TRANSFORMS
from ctvlm.volume.intensity import AIR


@TRANSFORMS.register_module()
class RandomShiftCT:
    """Shift by whole voxels in both directions, fill with air, and update the affine.

    Without shifts, a patch encoder learns findings only at the positions within a patch that occur in training. Whole
    voxels need no interpolation. Adds ``region_kept`` (see ``record_region_kept``).

    Args:
        max_shift: maximum shift in voxels (z, y, x).
    """

    def __init__(self, max_shift: Sequence[int] = (2, 8, 8)) -> None:
        if len(max_shift) != 3 or min(max_shift) < 0:
            raise ValueError(f"max_shift: found {max_shift}; expected three numbers >= 0 (z, y, x)")
        self.max_shift = tuple(int(n) for n in max_shift)

    def __call__(self, results: dict) -> dict:
        shift = [int(torch.randint(-n, n + 1, ())) for n in self.max_shift]
        out = {**results}
        for key, fill in (("volume", AIR), ("region_map", 0), ("lesion_map", 0)):
            if results.get(key) is not None:
                out[key] = _shift(results[key], shift, fill)
        if results.get("region_map") is not None:
            out = record_region_kept(out, results["region_map"], out["region_map"])
        affine = np.array(results["affine"], dtype=float)
        # The voxel at index 0 was at index -shift before; the affine is in (x, y, z).
        affine[:3, 3] -= affine[:3, :3] @ np.array(shift[::-1], dtype=float)
        return {**out, "affine": affine}


def _shift(array: np.ndarray, shift: Sequence[int], fill: float) -> np.ndarray:
    out = np.full_like(array, fill)
    target = tuple(slice(max(0, k), n + min(0, k)) for n, k in zip(array.shape, shift, strict=True))
    source = tuple(slice(max(0, -k), n + min(0, -k)) for n, k in zip(array.shape, shift, strict=True))
    out[target] = array[source]
    return out
