"""Findings of a case from its volume."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor

from ctvlm.models.layers import init_vit
from ctvlm.registry import HEADS, NECKS
from ctvlm.structures import EncoderOutput


@HEADS.register_module()
class ClassificationHead(nn.Module):
    """Features of a volume to a logit of each finding (B, C). Several findings can be present.

    Args:
        names: the findings, as in ``labels`` of the samples.
        pooling: config of the neck that pools the features; the mean of the patches by default.

    Raises:
        ValueError: no names, or a name that occurs twice.
    """

    def __init__(self, in_dims: int, names: Sequence[str], pooling: dict | None = None) -> None:
        super().__init__()
        self.names = list(names)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"ClassificationHead: names = {self.names}; expected one or more findings, each once")
        self.pooling = NECKS.build(pooling or dict(type="VolumePooling"), default_args=dict(in_dims=in_dims))
        self.norm = nn.LayerNorm(in_dims)
        self.classify = nn.Linear(in_dims, len(self.names))
        self.classify.apply(init_vit)

    def forward(self, encoded: EncoderOutput) -> Tensor:
        return self.classify(self.norm(self.pooling(encoded)))
