"""Bring a case to the encoder's grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ctvlm.datasets.transforms.kept import with_kept
from ctvlm.registry import TRANSFORMS
from ctvlm.volume import CTVolume, body_box, crop, crop_or_pad, resample_to_shape, resample_to_spacing
from ctvlm.volume.intensity import AIR


@TRANSFORMS.register_module()
class ResampleCT:
    """Resample the volume (antialiased) with its region and lesion maps (majority vote); the affine follows.

    - ``shape`` alone: the whole field of view becomes (D, H, W) voxels, so the spacing varies by case.
    - ``spacing`` alone: voxels become that size in mm (z, y, x), so the shape varies by case.
    - both: first the spacing, then a cut or an air margin around the centre to the shape; records ``region_kept`` (see
      ``with_kept``).

    Args:
        crop_to_body: cut the air around the patient before.
    """

    deterministic = True

    def __init__(
        self,
        shape: Sequence[int] | None = None,
        spacing: Sequence[float] | None = None,
        crop_to_body: bool = False,
    ) -> None:
        if shape is None and spacing is None and not crop_to_body:
            raise ValueError(
                "ResampleCT found nothing to do; give shape=(D, H, W), spacing=(z, y, x) in mm, or crop_to_body"
            )
        self.shape = None if shape is None else tuple(shape)
        self.spacing = None if spacing is None else tuple(spacing)
        self.crop_to_body = crop_to_body

    def __call__(self, results: dict) -> dict:
        ct = CTVolume(results["volume"], results["affine"])
        steps = self._steps(ct)
        out = {**results}
        for key, mode, fill in (
            ("volume", "linear", AIR),
            ("region_map", "majority", 0),
            ("lesion_map", "majority", 0),
        ):
            if results.get(key) is None:
                continue
            moved = CTVolume(results[key], results["affine"])
            for step in steps:
                moved = step(moved, mode)
            if self.shape is not None and self.spacing is not None:
                whole, moved = moved, crop_or_pad(moved, self.shape, fill)
                if key == "region_map":
                    out = with_kept(out, whole.array, moved.array)
            out[key] = moved.array
            if key == "volume":
                out.update(affine=moved.affine, spacing=moved.spacing)
        # Class masks outside the scheme serve measurement at native resolution only.
        out.pop("coarse_masks", None)
        return out

    def _steps(self, ct: CTVolume) -> list[Callable[[CTVolume, str], CTVolume]]:
        """What comes before the cut to a shape; of (volume, mode)."""
        steps: list[Callable[[CTVolume, str], CTVolume]] = []
        if self.crop_to_body:
            box = body_box(ct)
            steps.append(lambda v, mode: crop(v, box))
        if self.spacing is not None:
            steps.append(lambda v, mode: resample_to_spacing(v, self.spacing, mode))
        elif self.shape is not None:
            steps.append(lambda v, mode: resample_to_shape(v, self.shape, mode))
        return steps
