"""Random intensity changes in HU."""

from __future__ import annotations

import numpy as np
import torch
import torchio as tio

from ctvlm.datasets.transforms.torchio_transform import apply
from ctvlm.registry import TRANSFORMS
from ctvlm.volume.intensity import AIR


@TRANSFORMS.register_module()
class RandomIntensityCT:
    """Shift and scale HU and apply a gamma curve, to simulate different scanners.

    Args:
        shift: maximum shift in HU (calibration).
        contrast: maximum relative scaling about 0 HU (tube voltage); 0.1 for 0.9 to 1.1.
        log_gamma: maximum log of the exponent of ``torchio.RandomGamma`` on -1024..3071 HU; 0.02 changes soft tissue
            by about 20 HU.
        p: probability.
    """

    def __init__(self, shift: float = 15.0, contrast: float = 0.05, log_gamma: float = 0.0, p: float = 0.5) -> None:
        if shift < 0 or not 0 <= contrast < 1 or log_gamma < 0:
            raise ValueError(
                f"found shift {shift}, contrast {contrast}, log_gamma {log_gamma}; expected all >= 0 and contrast < 1"
            )
        self.shift, self.contrast, self.p = shift, contrast, p
        hu = (AIR, 3071.0)
        self.gamma = None
        if log_gamma:
            self.gamma = tio.Compose(
                [
                    tio.RescaleIntensity((0, 1), in_min_max=hu),
                    tio.RandomGamma(log_gamma=log_gamma),
                    tio.RescaleIntensity(hu, in_min_max=(0, 1)),
                ]
            )

    def __call__(self, results: dict) -> dict:
        if torch.rand(()).item() >= self.p:
            return results
        shift, scale = (torch.empty(2).uniform_(-1, 1) * torch.tensor([self.shift, self.contrast])).tolist()
        hu = results["volume"].astype(np.float32) * np.float32(1 + scale) + np.float32(shift)
        out = {**results, "volume": np.maximum(hu, np.float32(AIR))}
        return out if self.gamma is None else apply(self.gamma, out)
