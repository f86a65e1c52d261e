"""Findings predicted from the volume compared with the labels."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext
from ctvlm.registry import HEADS, OBJECTIVES
from ctvlm.structures import CTDataSample, MeanTerms


@OBJECTIVES.register_module()
class ClassificationObjective(Objective):
    """Classify findings. Several can be present; labels that are None or missing are ignored.

    Predictions: ``pred_probabilities`` (finding to probability).

    Args:
        head: config of a head with ``names`` and ``(encoded) -> logits (B, C)``.
        kwargs: as Objective.
    """

    default_loss = "ClassificationLoss"
    needs = frozenset({"pred_probabilities"})

    def __init__(self, head: dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.head = HEADS.build(head, default_args=dict(in_dims=self.vision_dims))

    def features(self, context: BatchContext) -> MeanTerms:
        logits_BC = self.head(context.encoded).float()
        labels_BC = label_rows(context.samples, self.head.names).to(logits_BC, non_blocking=True)
        return MeanTerms(self.criterion.terms(logits_BC, labels_BC))

    def predict(self, context: BatchContext, keys: Collection[str]) -> None:
        probabilities = self.head(context.encoded).float().sigmoid().tolist()
        for sample, row in zip(context.samples, probabilities, strict=True):
            sample.pred_probabilities = dict(zip(self.head.names, row, strict=True))


def label_rows(samples: Sequence[CTDataSample], names: Sequence[str]) -> Tensor:
    """Labels of each case in the order of the names (B, C): 1, 0, or NaN for a label that is None or missing."""
    labels = [[sample.labels.get(name) for name in names] for sample in samples]
    return torch.tensor([[math.nan if label is None else float(label) for label in row] for row in labels])
