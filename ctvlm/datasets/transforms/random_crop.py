"""Random crop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctvlm.anatomy import scheme_of
from ctvlm.datasets.transforms.boxes import check_shape, pad_to, select_box
from ctvlm.datasets.transforms.region_kept import record_region_kept
from ctvlm.datasets.transforms.visible_steps import visible_steps
from ctvlm.registry import TRANSFORMS
from ctvlm.volume import CTVolume, crop
from ctvlm.volume.intensity import AIR


@TRANSFORMS.register_module()
class RandomCropCT:
    """Crop a box of ``shape`` (D, H, W) at a random position; smaller cases are padded with air at the end of an axis.

    Uses slices, because the crop of torchio converts all arrays to float. For a store, ``LoadStore(window=...)`` is
    equivalent and decodes only the window. Adds ``region_kept`` (see ``record_region_kept``).

    Args:
        shape: (D, H, W).
        drop_unseen: remove the reasoning steps whose regions are all outside the crop.
    """

    def __init__(self, shape: Sequence[int], drop_unseen: bool = False) -> None:
        self.shape = check_shape(shape, "shape")
        self.drop_unseen = drop_unseen

    def __call__(self, results: dict) -> dict:
        box = select_box(results["volume"].shape, self.shape, "random")
        cropped = crop(CTVolume(results["volume"], results["affine"]), box)
        out = {**results, "affine": cropped.affine}
        for key, fill in (("volume", AIR), ("region_map", 0), ("lesion_map", 0)):
            if results.get(key) is not None:
                out[key] = np.ascontiguousarray(pad_to(results[key][box], self.shape, fill))
        if results.get("region_map") is not None:
            out = record_region_kept(out, results["region_map"], out["region_map"])
        if self.drop_unseen:
            scheme = scheme_of(results)
            out["cot"] = visible_steps(out.get("cot") or [], out.get("region_map"), scheme)
        return out
