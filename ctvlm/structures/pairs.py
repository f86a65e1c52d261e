"""Matching rows of two modalities, for a contrastive loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass
class Pairs:
    """M pairs of visual features and texts.

    Attributes:
        visual_MP, text_MP: embeddings (M, P), not normalised.
        text_ids_M: equal for texts with the same meaning (M), on every rank.
        region_ids_M: region id of each pair (M), if the pairs belong to regions.
        counts_M: False for rows that are no pairs (M); None: all are pairs. Which rows count may depend on values on
            the device, such as predicted regions; a selection of rows would have to wait for them.
    """

    visual_MP: Tensor
    text_MP: Tensor
    text_ids_M: Tensor
    region_ids_M: Tensor | None = None
    counts_M: Tensor | None = None

    @staticmethod
    def cat(parts: Sequence[Pairs]) -> Pairs:
        """The pairs of all parts of a batch, in order."""
        region_ids = [part.region_ids_M for part in parts if part.region_ids_M is not None]
        counts = [part.counts_M for part in parts if part.counts_M is not None]
        return Pairs(
            torch.cat([part.visual_MP for part in parts]),
            torch.cat([part.text_MP for part in parts]),
            torch.cat([part.text_ids_M for part in parts]),
            torch.cat(region_ids) if region_ids else None,
            torch.cat(counts) if counts else None,
        )

    @property
    def device(self) -> torch.device:
        return self.visual_MP.device

    def full_precision(self) -> Pairs:
        """The same pairs with embeddings in float32 or wider."""
        return replace(self, visual_MP=widened(self.visual_MP), text_MP=widened(self.text_MP))


def widened(x: Tensor) -> Tensor:
    """Convert half precision to float32; wider types stay."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
