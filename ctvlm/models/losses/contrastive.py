"""What all contrastive losses share: pairs of this rank against the pairs of all ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ctvlm.models.losses.functional import same_text
from ctvlm.utils.distributed import all_gather_with_grad

# Rows of the comparison that are held at a time; the backward pass computes them again where there are more.
_ROWS = 256


class NormalPairs(NamedTuple):
    """Pairs with features of length 1, and what marks them."""

    visual: Tensor
    text: Tensor
    text_ids: Tensor
    region_ids: Tensor | None


class ContrastiveLoss(nn.Module, ABC):
    """Mean over M pairs of all ranks; subclasses say what a row of the M x M comparison costs.

    The value is the same on every rank. Gradients are exact where they are averaged over ranks, as DDP does.

    Args:
        similar: texts whose embeddings have at least this cosine count as equal (see ``same_text``); None: only
            texts with equal ids do.
        cross_region: whether pairs of other regions are negatives too, or only the same region's of other cases;
            needs ``region_ids`` where False.
        local_loss: each rank compares its own rows only, m x M instead of M x M, and the sums are gathered: the same
            loss and gradients for less work and memory from two ranks on; on one it changes nothing.
        loss_weight: factor of the term in the sum.
    """

    def __init__(
        self,
        similar: float | None = None,
        cross_region: bool = True,
        local_loss: bool = False,
        loss_weight: float = 1.0,
    ):
        super().__init__()
        if similar is not None and not 0 < similar <= 1:
            raise ValueError(f"similar is {similar}; expected a cosine above 0 and up to 1, or None")
        self.similar = similar
        self.cross_region = cross_region
        self.local_loss = local_loss
        self.loss_weight = loss_weight

    @abstractmethod
    def row_sum(self, rows: NormalPairs, columns: NormalPairs, positive: Tensor, allowed: Tensor | None) -> Tensor:
        """Loss summed over rows (scalar); ``positive`` and ``allowed`` are (rows, columns)."""

    def forward(
        self, visual_MP: Tensor, text_MP: Tensor, text_ids_M: Tensor, region_ids_M: Tensor | None = None
    ) -> Tensor:
        """Weighted loss (scalar) of this rank's pairs: features, not normalised, and ids that equal texts share.

        Raises:
            ValueError: ``cross_region`` is False and there are no region ids.
        """
        if not self.cross_region and region_ids_M is None:
            raise ValueError(
                f"{type(self).__name__}(cross_region=False) got no region ids; use it for the level 'region', or leave "
                "cross_region at True"
            )
        own = NormalPairs(F.normalize(visual_MP, dim=-1), F.normalize(text_MP, dim=-1), text_ids_M, region_ids_M)
        columns = NormalPairs(*(None if x is None else all_gather_with_grad(x) for x in own))
        rows = own if self.local_loss else columns
        total = self._sum(rows, columns)
        if self.local_loss:
            # The backward pass of the gather sums what all ranks pass back: each rank has the gradient of world size
            # times its share, and the average over ranks makes it right.
            total = all_gather_with_grad(total[None]).sum()
        return self.loss_weight * total / max(1, len(columns.text_ids))

    def _sum(self, rows: NormalPairs, columns: NormalPairs) -> Tensor:
        """``row_sum`` over all rows, so many at a time that memory grows with M and not with its square."""
        count = len(rows.text_ids)
        if count <= _ROWS:
            return self._sum_at_once(rows, columns)
        total = rows.visual.new_zeros(())
        for start in range(0, count, _ROWS):
            part = NormalPairs(*(None if x is None else x[start : start + _ROWS] for x in rows))
            total = total + checkpoint(self._sum_at_once, part, columns, use_reentrant=False, preserve_rng_state=False)
        return total

    def _sum_at_once(self, rows: NormalPairs, columns: NormalPairs) -> Tensor:
        positive = same_text(rows.text, rows.text_ids, columns.text, columns.text_ids, self.similar)
        allowed = None if self.cross_region else rows.region_ids[:, None] == columns.region_ids[None, :]
        return self.row_sum(rows, columns, positive, allowed)
