"""Random intensity of each region."""

from __future__ import annotations

import numpy as np
import torch

from ctvlm.registry import TRANSFORMS
from ctvlm.volume.intensity import AIR


@TRANSFORMS.register_module()
class RandomRegionContrastCT:
    """Add a random offset in HU to each region of the region map, and another one to all other tissue.

    Imitates other contrast phases and other tissue. Without it, a model trained on phantoms knows a region by the few
    intensities that the generator gives it. A moderate form of the domain randomisation of SynthSeg (Billot et al.,
    2023). Air (below -900 HU) does not change. Without a region map the case does not change.

    Args:
        max_std: largest standard deviation of the offsets in HU; that of a case is uniform from 0 to this value.
        p: probability.
    """

    def __init__(self, max_std: float = 100.0, p: float = 0.5) -> None:
        if max_std < 0:
            raise ValueError(f"max_std: found {max_std}; expected HU >= 0")
        self.max_std, self.p = max_std, p

    def __call__(self, results: dict) -> dict:
        region_map = results.get("region_map")
        if region_map is None or torch.rand(()).item() >= self.p:
            return results
        std = self.max_std * torch.rand(()).item()
        offsets = (torch.randn(256) * std).numpy().astype(np.float32)
        hu = results["volume"].astype(np.float32)
        hu += offsets[region_map] * (hu > -900)
        return {**results, "volume": np.maximum(hu, np.float32(AIR))}
