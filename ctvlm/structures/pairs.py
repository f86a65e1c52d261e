"""Pairs of embeddings for a contrastive loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Pairs:
    """M pairs of a visual feature and its text.

    Attributes:
        visual_MP, text_MP: embeddings (M, P), not normalised.
        text_ids_M: ids (M) that are equal for equivalent texts, across all ranks.
        region_ids_M: region of each pair (M), for pairs of regions.
    """

    visual_MP: Tensor
    text_MP: Tensor
    text_ids_M: Tensor
    region_ids_M: Tensor | None = None

    @staticmethod
    def cat(parts: Sequence[Pairs]) -> Pairs:
        """Concatenate the pairs of several parts of a batch."""
        regions = [part.region_ids_M for part in parts if part.region_ids_M is not None]
        visual_MP, text_MP, text_ids_M = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("visual_MP", "text_MP", "text_ids_M")
        )
        return Pairs(visual_MP, text_MP, text_ids_M, torch.cat(regions) if regions else None)
