"""Random Gaussian noise, which simulates a lower dose."""

from __future__ import annotations

import torchio as tio

from ctvlm.datasets.transforms.torchio_transform import apply
from ctvlm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomNoiseCT:
    """Add Gaussian noise with a random standard deviation from 0 to ``std`` HU.

    Args:
        std: maximum standard deviation in HU.
        p: probability.
    """

    def __init__(self, std: float = 25.0, p: float = 0.5) -> None:
        self.transform = tio.RandomNoise(std=(0, std), p=p)

    def __call__(self, results: dict) -> dict:
        return apply(self.transform, results)
