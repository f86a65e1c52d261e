"""A random box of a case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctvlm.anatomy import scheme_of
from ctvlm.datasets.transforms.boxes import box_in, checked_shape, padded
from ctvlm.datasets.transforms.kept import with_kept
from ctvlm.datasets.transforms.visible import visible_steps
from ctvlm.registry import TRANSFORMS
from ctvlm.volume import CTVolume, crop
from ctvlm.volume.intensity import AIR


@TRANSFORMS.register_module()
class RandomCropCT:
    """Cut a box of ``shape`` (D, H, W) at a random place; where the case is smaller, air fills its far sides.

    Plain slices instead of torchio's crop, which would turn everything into floats first. From a store, LoadStore's
    ``window`` does the same without decoding the rest. Records ``region_kept`` (see ``with_kept``).

    Args:
        drop_unseen: leave out the reasoning steps that name regions of which no voxel is left.
    """

    def __init__(self, shape: Sequence[int], drop_unseen: bool = False) -> None:
        self.shape = checked_shape(shape, "shape")
        self.drop_unseen = drop_unseen

    def __call__(self, results: dict) -> dict:
        box = box_in(results["volume"].shape, self.shape, "random")
        cut = crop(CTVolume(results["volume"], results["affine"]), box)
        out = {**results, "affine": cut.affine}
        for key, fill in (("volume", AIR), ("region_map", 0), ("lesion_map", 0)):
            if results.get(key) is not None:
                out[key] = np.ascontiguousarray(padded(results[key][box], self.shape, fill))
        if results.get("region_map") is not None:
            out = with_kept(out, results["region_map"], out["region_map"])
        if self.drop_unseen:
            scheme = scheme_of(results)
            out["cot"] = visible_steps(out.get("cot") or [], out.get("region_map"), scheme)
        return out
