"""Base class of contrastive losses: pairs of this rank compared with the pairs of all ranks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ctvlm.models.losses.base import Loss
from ctvlm.models.losses.functional import same_text
from ctvlm.structures import Pairs
from ctvlm.utils.distributed import all_gather_with_grad

# Rows of the comparison in memory at a time. With more rows, the backward pass computes each block again.
_ROWS = 256


class NormalPairs(NamedTuple):
    """Pairs with L2-normalised features and their ids."""

    visual: Tensor
    text: Tensor
    text_ids: Tensor
    region_ids: Tensor | None
    counts: Tensor | None

    def map(self, function: Callable[[Tensor], Tensor]) -> NormalPairs:
        """Apply a function to each column."""
        region_ids = None if self.region_ids is None else function(self.region_ids)
        counts = None if self.counts is None else function(self.counts)
        return NormalPairs(function(self.visual), function(self.text), function(self.text_ids), region_ids, counts)


def _block(column: Tensor, start: int) -> Tensor:
    return column[start : start + _ROWS]


class ContrastiveLoss(Loss):
    """Mean over the M pairs of all ranks. Subclasses define the loss of a row of the M x M comparison.

    The value is the same on every rank. Gradients are exact if they are averaged over ranks, as DDP does.

    Args:
        similar: treat texts whose embeddings have at least this cosine similarity as equal (see ``same_text``).
            None: only texts with equal ids are equal.
        cross_region: use pairs of all regions as negatives. False: only pairs of the same region (needs region ids).
        local_loss: each rank compares only its own rows, m x M instead of M x M, and the sums are gathered. Loss and
            gradients are the same, with less work and memory on several ranks.
        loss_weight: factor of the loss in the sum.
    """

    compares_cases = True

    def __init__(
        self,
        similar: float | None = None,
        cross_region: bool = True,
        local_loss: bool = False,
        loss_weight: float = 1.0,
    ):
        super().__init__(loss_weight)
        if similar is not None and not 0 < similar <= 1:
            raise ValueError(f"similar is {similar}; expected a cosine above 0 and up to 1, or None")
        self.similar = similar
        self.cross_region = cross_region
        self.local_loss = local_loss

    @abstractmethod
    def row_sum(self, rows: NormalPairs, columns: NormalPairs, positive: Tensor, allowed: Tensor | None) -> Tensor:
        """Loss summed over rows (scalar). ``positive`` and ``allowed`` have shape (rows, columns).

        A row for which no column is allowed is no pair, and has a loss of 0.
        """

    def forward(self, features: Pairs) -> Tensor:
        """Weighted loss (scalar) of this rank's pairs.

        Raises:
            ValueError: ``cross_region`` is False and the pairs have no region ids.
        """
        if not self.cross_region and features.region_ids_M is None:
            raise ValueError(
                f"{type(self).__name__}(cross_region=False): the pairs have no region ids. Use it for the objective "
                "'region', or set cross_region=True."
            )
        own = NormalPairs(
            F.normalize(features.visual_MP, dim=-1),
            F.normalize(features.text_MP, dim=-1),
            features.text_ids_M,
            features.region_ids_M,
            features.counts_M,
        )
        columns = own.map(all_gather_with_grad)
        rows = own if self.local_loss else columns
        total = self._sum(rows, columns)
        if self.local_loss:
            # The backward pass of the gather sums the gradients of all ranks: each rank gets world_size times its own
            # gradient, and DDP's average over ranks corrects this.
            total = all_gather_with_grad(total[None]).sum()
        if columns.counts is None:
            return self.loss_weight * total / max(1, len(columns.text_ids))
        return self.loss_weight * total / columns.counts.sum().clamp(min=1)

    def _sum(self, rows: NormalPairs, columns: NormalPairs) -> Tensor:
        """``row_sum`` over all rows, in blocks, so that memory grows with M instead of its square."""
        count = len(rows.text_ids)
        if count <= _ROWS:
            return self._sum_at_once(rows, columns)
        total = rows.visual.new_zeros(())
        for start in range(0, count, _ROWS):
            part = rows.map(partial(_block, start=start))
            total = total + checkpoint(self._sum_at_once, part, columns, use_reentrant=False, preserve_rng_state=False)
        return total

    def _sum_at_once(self, rows: NormalPairs, columns: NormalPairs) -> Tensor:
        positive = same_text(rows.text, rows.text_ids, columns.text, columns.text_ids, self.similar, columns.counts)
        allowed = None
        if not self.cross_region and rows.region_ids is not None and columns.region_ids is not None:
            allowed = rows.region_ids[:, None] == columns.region_ids[None, :]
        if rows.counts is not None and columns.counts is not None:
            both = rows.counts[:, None] & columns.counts[None, :]
            allowed = both if allowed is None else allowed & both
        return self.row_sum(rows, columns, positive, allowed)
