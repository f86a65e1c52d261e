"""Region features against the steps that mention the region."""

from __future__ import annotations

from ctvlm.models.losses.cross_modal_contrastive import CrossModalContrastiveLoss
from ctvlm.registry import LOSSES


@LOSSES.register_module()
class RegionAlignmentLoss(CrossModalContrastiveLoss):
    """InfoNCE over all (case, region) pairs with a mention, of all ranks; arguments as ``ContrastiveLoss``.

    A text that two regions share ("Both lungs are clear.") is positive for both. Regions that a crop cut away are no
    pairs (see ``RegionMentions``).
    """
