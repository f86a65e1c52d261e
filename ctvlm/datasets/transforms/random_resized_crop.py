"""Random field of view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ctvlm.anatomy import scheme_of
from ctvlm.datasets.transforms.boxes import check_shape
from ctvlm.datasets.transforms.region_kept import record_region_kept
from ctvlm.datasets.transforms.visible_steps import visible_steps
from ctvlm.registry import TRANSFORMS
from ctvlm.volume import CTVolume, body_box, crop, resample_to_shape
from ctvlm.volume.resample import resized_affine


@TRANSFORMS.register_module()
class RandomResizedCropCT:
    """Crop to the body, then to a random box, and resample the box to ``shape``, as torchvision's RandomResizedCrop.

    Imitates scans of a part of the body and reconstructions zoomed on an organ. A random box removes the report, which
    describes the whole scan, and the reasoning steps whose lesion or regions are completely outside.
    Adds ``region_kept`` (see ``record_region_kept``).

    Args:
        shape: (D, H, W).
        scale_z: smallest and largest fraction of the length of the scan.
        scale_xy: the same for x and y, whose fractions differ by at most 15%.
        p: probability of a random box; otherwise only the crop to the body is applied.
    """

    def __init__(
        self,
        shape: Sequence[int],
        scale_z: tuple[float, float] = (0.4, 1.0),
        scale_xy: tuple[float, float] = (0.5, 1.0),
        p: float = 1.0,
    ) -> None:
        self.shape = check_shape(shape, "shape")
        for name, (low, high) in (("scale_z", scale_z), ("scale_xy", scale_xy)):
            if not 0 < low <= high <= 1:
                raise ValueError(f"{name}: found {(low, high)}; expected 0 < low <= high <= 1")
        self.scale_z, self.scale_xy, self.p = scale_z, scale_xy, p

    def __call__(self, results: dict) -> dict:
        box = body_box(CTVolume(results["volume"], results["affine"]))
        out = {**results}
        if part := torch.rand(()).item() < self.p:
            box = self._part(box)
            out["report"] = {}
        for key in ("volume", "region_map", "lesion_map"):
            if results.get(key) is None:
                continue
            cropped = crop(CTVolume(results[key], results["affine"]), box)
            if key == "region_map":
                out = record_region_kept(out, results[key], cropped.array)
            resampled = _resampled(cropped, self.shape, key == "volume")
            out[key] = resampled.array
            if key == "volume":
                out.update(affine=resampled.affine, spacing=resampled.spacing)
        # Class masks outside the scheme are only measured at native resolution.
        out.pop("coarse_masks", None)
        if part:
            steps = visible_steps(out.get("cot") or [], out.get("region_map"), scheme_of(results))
            out["cot"] = _with_lesions(steps, out.get("lesion_map"))
        return out

    def _part(self, box: tuple[slice, ...]) -> tuple[slice, ...]:
        in_plane = _uniform(*self.scale_xy)
        fractions = (_uniform(*self.scale_z), in_plane, min(1.0, in_plane * _uniform(0.85, 1.15)))
        part = []
        for side, fraction in zip(box, fractions, strict=True):
            size = side.stop - side.start
            kept = max(1, round(size * fraction))
            start = side.start + int(torch.randint(size - kept + 1, ()))
            part.append(slice(start, start + kept))
        return tuple(part)


def _resampled(volume: CTVolume, shape: tuple[int, int, int], is_image: bool) -> CTVolume:
    """Resample to a shape. Up to twice as coarse, an image needs no antialiasing, which takes most of the time."""
    if not is_image or max(old / new for old, new in zip(volume.shape, shape)) > 2:
        return resample_to_shape(volume, shape, "linear" if is_image else "nearest")
    hu = torch.from_numpy(volume.array.astype(np.float32))[None, None]
    array = F.interpolate(hu, shape, mode="trilinear", align_corners=False)[0, 0].numpy()
    return CTVolume(array, resized_affine(volume, shape))


def _with_lesions(steps: list[dict], lesion_map: np.ndarray | None) -> list[dict]:
    """Steps without a lesion, or whose lesion is in the map; all steps without a map."""
    if lesion_map is None:
        return steps
    present = set(np.unique(lesion_map).tolist())
    return [step for step in steps if step.get("lesion") is None or step["lesion"] in present]


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()
