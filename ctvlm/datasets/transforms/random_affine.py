"""Random rotation, scaling and translation."""

from __future__ import annotations

from collections.abc import Sequence

import torchio as tio

from ctvlm.datasets.transforms.torchio_transform import apply
from ctvlm.registry import TRANSFORMS
from ctvlm.volume.intensity import AIR


@TRANSFORMS.register_module()
class RandomAffineCT:
    """Rotate, scale and translate about the centre on the same grid; outside voxels are air.

    The volume is interpolated linearly, the maps with nearest neighbour.

    Args:
        degrees: maximum rotation about x, y and z (one number for all, or three).
        scale: maximum relative change of size; 0.1 for 0.9 to 1.1.
        translation: maximum translation in mm along x, y and z.
        p: probability.
    """

    def __init__(
        self,
        degrees: float | Sequence[float] = (3, 3, 8),
        scale: float = 0.1,
        translation: float | Sequence[float] = 8,
        p: float = 0.5,
    ) -> None:
        self.transform = tio.RandomAffine(
            scales=scale,
            degrees=_triple(degrees),
            translation=_triple(translation),
            isotropic=True,
            default_pad_value=AIR,
            p=p,
        )

    def __call__(self, results: dict) -> dict:
        return apply(self.transform, results)


def _triple(value: float | Sequence[float]) -> float | tuple[float, float, float]:
    if isinstance(value, (int, float)):
        return value
    x, y, z = value
    return x, y, z
