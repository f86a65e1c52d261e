"""Feature maps at several resolutions from the levels of an encoder."""

from __future__ import annotations

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.registry import NECKS
from ctvlm.structures import EncoderOutput


@NECKS.register_module()
class FeaturePyramid3D(nn.Module):
    """Levels (B, N, E) to a list of maps (B, E', d_i, h_i, w_i), fine to coarse.

    Each map is a lateral projection of one level, resampled to its scale of the patch grid, plus the next coarser
    map. Shallow levels are used for fine maps. If there are fewer levels than scales, the last level is used for the
    remaining scales (as in ViTDet).

    Args:
        scales: factors (z, y, x) on the patch grid, fine to coarse.
    """

    def __init__(
        self,
        in_dims: int,
        out_dims: int = 256,
        scales: tuple[tuple[float, float, float], ...] = ((2, 4, 4), (1, 2, 2), (1, 1, 1), (0.5, 0.5, 0.5)),
    ) -> None:
        super().__init__()
        if not scales:
            raise ValueError("FeaturePyramid3D: scales is empty; expected at least one triple (z, y, x)")
        self.scales = tuple(tuple(scale) for scale in scales)
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(in_dims), nn.Linear(in_dims, out_dims)) for _ in self.scales
        )
        self.smooth = nn.ModuleList(nn.Conv3d(out_dims, out_dims, kernel_size=3, padding=1) for _ in self.scales)

    def forward(self, out: EncoderOutput) -> list[Tensor]:
        levels = out.levels or [out.tokens]
        above: Tensor | None = None
        maps: list[Tensor] = []
        for i in reversed(range(len(self.scales))):
            level_BNE = levels[min(i, len(levels) - 1)]
            map_BEdhw = self.lateral[i](level_BNE).transpose(1, 2).unflatten(2, out.grid)
            d, h, w = (max(1, round(n * s)) for n, s in zip(out.grid, self.scales[i]))
            size = (d, h, w)
            map_BEdhw = _resample(map_BEdhw, size)
            if above is not None:
                map_BEdhw = map_BEdhw + _resample(above, size)
            above = map_BEdhw
            maps.insert(0, self.smooth[i](map_BEdhw))
        return maps


def _resample(map_BEdhw: Tensor, size: tuple[int, int, int]) -> Tensor:
    if tuple(map_BEdhw.shape[2:]) == size:
        return map_BEdhw
    return F.interpolate(map_BEdhw, size=size, mode="trilinear", align_corners=False)
