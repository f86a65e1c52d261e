"""Resampling of a case to the grid of the encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from ctvlm.datasets.transforms.boxes import check_shape
from ctvlm.datasets.transforms.region_kept import record_region_kept
from ctvlm.registry import TRANSFORMS
from ctvlm.volume import CTVolume, body_box, crop, crop_or_pad, resample_to_shape, resample_to_spacing
from ctvlm.volume.intensity import AIR

Mode = Literal["linear", "majority"]


@TRANSFORMS.register_module()
class ResampleCT:
    """Resample the volume (antialiased) and its region and lesion maps (majority vote), and update the affine.

    - ``shape`` only: resample the whole field of view to (D, H, W) voxels; the spacing varies by case.
    - ``spacing`` only: resample to this voxel size; the shape varies by case.
    - both: resample to the spacing, then crop or pad with air around the centre to the shape; adds ``region_kept``
      (see ``record_region_kept``).

    Args:
        shape: (D, H, W).
        spacing: in mm (z, y, x).
        crop_to_body: first crop to the body of the patient.
    """

    deterministic = True

    def __init__(
        self,
        shape: Sequence[int] | None = None,
        spacing: Sequence[float] | None = None,
        crop_to_body: bool = False,
    ) -> None:
        if shape is None and spacing is None and not crop_to_body:
            raise ValueError("ResampleCT needs shape=(D, H, W), spacing=(z, y, x) in mm, or crop_to_body=True")
        self.shape = None if shape is None else check_shape(shape, "shape")
        self.spacing = None if spacing is None else tuple(spacing)
        self.crop_to_body = crop_to_body

    def __call__(self, results: dict) -> dict:
        ct = CTVolume(results["volume"], results["affine"])
        steps = self._steps(ct)
        out = {**results}
        specs: tuple[tuple[str, Mode, float], ...] = (
            ("volume", "linear", AIR),
            ("region_map", "majority", 0),
            ("lesion_map", "majority", 0),
        )
        for key, mode, fill in specs:
            if results.get(key) is None:
                continue
            resampled = CTVolume(results[key], results["affine"])
            for step in steps:
                resampled = step(resampled, mode)
            if self.shape is not None and self.spacing is not None:
                whole, resampled = resampled, crop_or_pad(resampled, self.shape, fill)
                if key == "region_map":
                    out = record_region_kept(out, whole.array, resampled.array)
            out[key] = resampled.array
            if key == "volume":
                out.update(affine=resampled.affine, spacing=resampled.spacing)
        # Class masks outside the scheme are only measured at native resolution.
        out.pop("coarse_masks", None)
        return out

    def _steps(self, ct: CTVolume) -> list[Callable[[CTVolume, Mode], CTVolume]]:
        """Return the functions of (volume, mode) that are applied before the crop to a shape."""
        steps: list[Callable[[CTVolume, Mode], CTVolume]] = []
        if self.crop_to_body:
            box = body_box(ct)
            steps.append(lambda v, mode: crop(v, box))
        spacing, shape = self.spacing, self.shape
        if spacing is not None:
            steps.append(lambda v, mode: resample_to_spacing(v, spacing, mode))
        elif shape is not None:
            steps.append(lambda v, mode: resample_to_shape(v, shape, mode))
        return steps
