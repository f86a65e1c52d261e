"""Matching rows of two modalities, for a contrastive loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Pairs:
    """M pairs of something seen and what is said of it.

    Attributes:
        visual_MP, text_MP: embeddings (M, P), not normalised.
        text_ids_M: equal where the same is said (M), on every rank.
        region_ids_M: the region that each pair speaks of (M), where pairs are regions.
    """

    visual_MP: Tensor
    text_MP: Tensor
    text_ids_M: Tensor
    region_ids_M: Tensor | None = None

    @staticmethod
    def cat(parts: Sequence[Pairs]) -> Pairs:
        """The pairs of several parts of a batch, in order."""
        columns = [[getattr(part, name) for part in parts] for name in Pairs.__dataclass_fields__]
        return Pairs(*(None if column[0] is None else torch.cat(column) for column in columns))
