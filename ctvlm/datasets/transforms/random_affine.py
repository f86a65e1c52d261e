"""Turn, scale and move the patient a little."""

from __future__ import annotations

from collections.abc import Sequence

import torchio as tio

from ctvlm.datasets.transforms.torchio_transform import apply
from ctvlm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomAffineCT:
    """Rotate, scale and shift about the centre, on the same grid; what comes from outside is air.

    The volume is interpolated linearly, the maps by nearest neighbour.

    Args:
        degrees: largest rotation about x, y and z (one number for all, or three).
        scale: largest change of size, 0.1 for 0.9 to 1.1.
        translation: largest shift in mm along x, y and z.
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
            degrees=_each(degrees),
            translation=_each(translation),
            isotropic=True,
            default_pad_value=-1024,
            p=p,
        )

    def __call__(self, results: dict) -> dict:
        return apply(self.transform, results)


def _each(value: float | Sequence[float]) -> float | tuple[float, ...]:
    return value if isinstance(value, (int, float)) else tuple(value)
