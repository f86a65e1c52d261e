"""Regions of a sample of voxels compared with the region map."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext
from ctvlm.registry import HEADS, OBJECTIVES
from ctvlm.structures import MeanTerms


@OBJECTIVES.register_module()
class PointSegmentationObjective(Objective):
    """Predict the regions of voxels. Training classifies a random sample of voxels (PointRend, Kirillov et al., 2020).

    Predictions: ``pred_region_map`` (D, H, W), uint8. If several objectives predict a map, the last one is kept.

    Args:
        head: config of a PointSegmentationHead.
        num_points: voxels per case; all voxels of a smaller volume.
        kwargs: as Objective.
    """

    default_loss = "SegmentationLoss"
    needs = frozenset({"pred_region_map"})

    def __init__(self, head: dict, num_points: int = 8192, **kwargs) -> None:
        super().__init__(**kwargs)
        if num_points < 1:
            raise ValueError(f"PointSegmentationObjective: num_points = {num_points}; expected at least 1")
        self.head = HEADS.build(head, default_args=dict(in_dims=self.vision_dims))
        self.num_points = num_points

    def features(self, context: BatchContext) -> MeanTerms:
        hu_B1DHW, region_map_BDHW = context.inputs["volume"], context.inputs.get("region_map")
        cells_BEdhw = self.head.cells(context.encoded, hu_B1DHW)
        points_BM = self._sample(hu_B1DHW)
        logits_BMR1 = self.head(cells_BEdhw, hu_B1DHW, context.inputs["spacing"], points_BM)
        if region_map_BDHW is None:
            return MeanTerms.none(logits_BMR1)
        ids_BM = region_map_BDHW.flatten(1).gather(1, points_BM)
        return MeanTerms(self.criterion.terms(logits_BMR1, ids_BM, ids_BM >= 0))

    def _sample(self, hu_B1DHW: Tensor) -> Tensor:
        batch, voxels = len(hu_B1DHW), hu_B1DHW[0, 0].numel()
        if voxels <= self.num_points:
            return torch.arange(voxels, device=hu_B1DHW.device).expand(batch, -1)
        return torch.randint(voxels, (batch, self.num_points), device=hu_B1DHW.device)

    def predict(self, context: BatchContext, keys: Collection[str]) -> None:
        inputs = context.inputs
        maps_BDHW: Tensor = self.head.region_map(context.encoded, inputs["volume"], inputs["spacing"])
        for region_map_DHW, sample in zip(maps_BDHW.cpu(), context.samples):
            sample.pred_region_map = region_map_DHW
