"""Move a case against the patch grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ctvlm.datasets.transforms.kept import with_kept
from ctvlm.registry import TRANSFORMS
from ctvlm.volume.intensity import AIR


@TRANSFORMS.register_module()
class RandomShiftCT:
    """Shift by whole voxels, up to ``max_shift`` (z, y, x) either way; air comes in, the affine follows.

    Without it a patch encoder learns each finding at the few places in a patch where the training cases have it.
    Whole voxels need no interpolation, so nothing is blurred. Records ``region_kept`` (see ``with_kept``).
    """

    def __init__(self, max_shift: Sequence[int] = (2, 8, 8)) -> None:
        if len(max_shift) != 3 or min(max_shift) < 0:
            raise ValueError(f"max_shift is {max_shift}; expected three numbers of voxels (z, y, x), 0 or more")
        self.max_shift = tuple(int(n) for n in max_shift)

    def __call__(self, results: dict) -> dict:
        shift = [int(torch.randint(-n, n + 1, ())) for n in self.max_shift]
        out = {**results}
        for key, fill in (("volume", AIR), ("region_map", 0), ("lesion_map", 0)):
            if results.get(key) is not None:
                out[key] = _shifted(results[key], shift, fill)
        if results.get("region_map") is not None:
            out = with_kept(out, results["region_map"], out["region_map"])
        affine = np.array(results["affine"], dtype=float)
        # The voxel that stands at the origin now stood at -shift before; the affine reads x, y, z.
        affine[:3, 3] -= affine[:3, :3] @ np.array(shift[::-1], dtype=float)
        return {**out, "affine": affine}


def _shifted(array: np.ndarray, shift: Sequence[int], fill: float) -> np.ndarray:
    out = np.full_like(array, fill)
    to = tuple(slice(max(0, k), n + min(0, k)) for n, k in zip(array.shape, shift, strict=True))
    origin = tuple(slice(max(0, -k), n + min(0, -k)) for n, k in zip(array.shape, shift, strict=True))
    out[to] = array[origin]
    return out
