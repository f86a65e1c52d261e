"""Rotary positions with wavelengths of their own for each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ctvlm.models.layers import RotaryPosition3D
from ctvlm.registry import LAYERS


@LAYERS.register_module()
class AnisotropicRotaryPosition3D(RotaryPosition3D):
    """RotaryPosition3D with a range of wavelengths for each axis (z, y, x).

    CT is anisotropic: slices are thicker than pixels, and a scan is longer in z than the body is wide. Positions are
    in mm, so a wavelength below twice the distance of neighbouring patches of an axis cannot be resolved.

    Args:
        head_dims: width of an attention head.
        min_wavelength, max_wavelength: mm, for z, y and x.

    Raises:
        ValueError: a range that is not positive or not increasing.
    """

    def __init__(
        self,
        head_dims: int,
        min_wavelength: Sequence[float] = (40.0, 20.0, 20.0),
        max_wavelength: Sequence[float] = (4000.0, 2000.0, 2000.0),
    ) -> None:
        super().__init__(head_dims)
        ranges = list(zip(min_wavelength, max_wavelength))
        if len(min_wavelength) != 3 or len(max_wavelength) != 3 or any(not 0 < low < high for low, high in ranges):
            raise ValueError(
                f"min_wavelength = {tuple(min_wavelength)}, max_wavelength = {tuple(max_wavelength)}; expected three "
                "positive values each (z, y, x), the minimum below the maximum"
            )
        low_31 = torch.tensor(min_wavelength, dtype=torch.float64)[:, None]
        high_31 = torch.tensor(max_wavelength, dtype=torch.float64)[:, None]
        steps_F = torch.linspace(0, 1, head_dims // 6, dtype=torch.float64)
        # (3, F) in place of (F): the forward pass of the base class broadcasts positions (B, N, 3, 1) with it.
        self.omega = (2 * math.pi / (low_31 * (high_31 / low_31) ** steps_F)).float()
