"""Base class of objectives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ctvlm.registry import LOSSES
from ctvlm.structures import MeanTerms, Pairs

if TYPE_CHECKING:
    from ctvlm.models.objectives.batch_context import BatchContext
    from ctvlm.models.objectives.text_bank import TextBank


class Objective(nn.Module, ABC):
    """One alignment level or auxiliary task: its texts, views, loss and predictions.

    The model calls ``request`` of all objectives, then ``features``, which reads views of the BatchContext. Features
    of a case must not depend on other cases, so that gradient caching stays exact. ``loss`` reduces the features of
    all cases and ranks.

    Attributes:
        default_loss: type of the loss for a config that has none; None: the objective is not trained then.
        reads_all_patches: False if ``features`` uses its own encoding of a part of the patches instead of
            ``context.encoded``. A model that trains such objectives only does not encode all patches.
        needs: keys that ``predict`` adds to samples, as read by the metrics of this objective.

    Args:
        vision_dims: width of the vision encoder.
        shared_dims: width of the shared space.
        loss: config of the loss. None: ``default_loss``; False: the objective only adds predictions.
    """

    default_loss: str | None = None
    reads_all_patches: bool = True
    needs: frozenset[str] = frozenset()

    def __init__(self, vision_dims: int = 0, shared_dims: int = 0, loss: dict | bool | None = None) -> None:
        super().__init__()
        self.vision_dims = vision_dims
        self.shared_dims = shared_dims
        if loss is None and self.default_loss is not None:
            loss = dict(type=self.default_loss)
        self.criterion: Any = LOSSES.build(loss, default_args=self.loss_args()) if loss else None

    def loss_args(self) -> dict[str, Any] | None:
        """Default arguments of the loss."""
        return None

    @property
    def is_trained(self) -> bool:
        return self.criterion is not None

    @property
    def compares_cases(self) -> bool:
        """Whether the loss of a case depends on the other cases of the batch."""
        return getattr(self.criterion, "compares_cases", False)

    def request(self, texts: TextBank) -> None:
        """Name the texts that ``features`` or ``predict`` embeds. They are encoded in one pass, each once."""

    @abstractmethod
    def features(self, context: BatchContext) -> Pairs | MeanTerms:
        """What the loss reads: pairs, or terms of a mean."""

    def loss(self, features: Pairs | MeanTerms) -> Tensor:
        """Loss (scalar) over the features of all cases of all ranks, in full precision."""
        return self.criterion(features)

    def predict(self, context: BatchContext, keys: Collection[str]) -> None:
        """Write the predictions ``keys``, a subset of ``needs``, into the samples of the context."""
