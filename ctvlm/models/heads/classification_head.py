"""Findings of a case from its volume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.layers import init_vit
from ctvlm.registry import HEADS, NECKS
from ctvlm.structures import Anatomy, CTDataSample, EncoderOutput


@HEADS.register_module()
class ClassificationHead(nn.Module):
    """Features of a volume to a logit of each finding (B, C); several findings may be present.

    An auxiliary head: binary cross-entropy over the labels that are known (``labels`` of a sample: 1, 0; None and
    findings left out count nowhere), and ``pred_probabilities`` (finding to probability) in predictions.

    Args:
        names: the findings, as in ``labels``.
        pooling: config of the neck that pools the features; the mean of the patches by default.

    Raises:
        ValueError: no names, or one twice.
    """

    def __init__(
        self, in_dims: int, names: Sequence[str], pooling: dict | None = None, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.names = list(names)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"ClassificationHead: names = {self.names}; expected one or more findings, each once")
        self.loss_weight = loss_weight
        self.pooling = NECKS.build(pooling or dict(type="VolumePooling"), default_args=dict(in_dims=in_dims))
        self.norm = nn.LayerNorm(in_dims)
        self.classify = nn.Linear(in_dims, len(self.names))
        self.classify.apply(init_vit)

    def forward(self, encoded: EncoderOutput) -> Tensor:
        return self.classify(self.norm(self.pooling(encoded)))

    def terms(
        self, encoded: EncoderOutput, anatomy: Anatomy | None, inputs: dict, data_samples: list[CTDataSample]
    ) -> Tensor:
        """Sum and count (2) of the loss over the known labels; 0 of 0, still with a gradient, where none is known."""
        logits_BC = self(encoded).float()
        labels_BC = logits_BC.new_tensor([[_number(s.labels.get(name)) for name in self.names] for s in data_samples])
        known_BC = ~labels_BC.isnan()
        loss_BC = F.binary_cross_entropy_with_logits(logits_BC, labels_BC.nan_to_num(), reduction="none")
        return torch.stack([(loss_BC * known_BC).sum(), known_BC.sum().to(loss_BC.dtype)])

    @torch.no_grad()
    def predict(self, encoded: EncoderOutput, inputs: dict, data_samples: list[CTDataSample]) -> None:
        """Write ``pred_probabilities``."""
        for sample, row in zip(data_samples, self(encoded).float().sigmoid().tolist(), strict=True):
            sample.pred_probabilities = dict(zip(self.names, row, strict=True))


def _number(label: int | None) -> float:
    return math.nan if label is None else float(label)
