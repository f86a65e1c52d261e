"""Every registered loss passes check_loss, and the check names what a broken loss does wrong."""

from __future__ import annotations

import pytest

import ctvlm.models  # noqa: F401 (registers everything)
from ctvlm.models.losses import AttentionFocusLoss, CrossModalContrastiveLoss
from ctvlm.registry import LOSSES
from ctvlm.testing import check_loss

OPTIONS: dict[str, list[dict]] = {
    "AttentionFocusLoss": [{}],
    "ClassificationLoss": [{}],
    "CrossModalContrastiveLoss": [{}, dict(similar=0.95), dict(cross_region=False), dict(local_loss=True)],
    "FixedTemperatureContrastiveLoss": [dict(temperature=0.1)],
    "GenerationLoss": [{}],
    "MaskedReconstructionLoss": [{}],
    "OppositeTextLoss": [{}],
    "PromptClassificationLoss": [{}],
    "RegionAlignmentLoss": [{}],
    "SegmentationLoss": [{}],
    "SigmoidContrastiveLoss": [{}],
    "StepAlignmentLoss": [{}],
    "StepOrderLoss": [dict(embed_dims=8)],
}
# A weighting of losses, see test_models/test_losses_multi_task.py.
NOT_A_LOSS = {"MultiTaskLoss"}


def test_no_loss_is_left_out():
    registered = {name for name, cls in LOSSES.module_dict.items() if cls.__module__.startswith("ctvlm.")}
    assert registered == set(OPTIONS) | NOT_A_LOSS


@pytest.mark.parametrize(("name", "options"), [(name, o) for name, each in OPTIONS.items() for o in each])
def test_loss(name, options):
    check_loss(name, **options)


class ReadsLength(CrossModalContrastiveLoss):
    def forward(self, features):
        return super().forward(features) * features.visual_MP.norm()


class ReadsOrder(CrossModalContrastiveLoss):
    def forward(self, features):
        return super().forward(features) * (2 + features.visual_MP[:1, 0].sum().tanh())


class Inverted(CrossModalContrastiveLoss):
    def forward(self, features):
        return -super().forward(features)


class NoTemperatureGradient(CrossModalContrastiveLoss):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.scale = self.logit_scale
        del self.logit_scale
        self.logit_scale = lambda: self.scale().detach()


class LossOfEachPair(CrossModalContrastiveLoss):
    def forward(self, features):
        return super().forward(features)[None]


class MeanOfNoPairs(CrossModalContrastiveLoss):
    def forward(self, features):
        return super().forward(features) * (features.visual_MP + 1).mean() ** 0 + features.visual_MP.mean() * 0


class IgnoresWeight(AttentionFocusLoss):
    def forward(self, features):
        return super().forward(features) / self.loss_weight


class SumOfTerms(AttentionFocusLoss):
    def forward(self, features):
        return self.loss_weight * features.sum_and_count_2[0]


class NoAttribute(AttentionFocusLoss):
    compares_cases = None


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (ReadsLength, "scale of features"),
        (ReadsOrder, "order of pairs"),
        (Inverted, "matching pairs"),
        (NoTemperatureGradient, "gradients"),
        (LossOfEachPair, "scalar"),
        (MeanOfNoPairs, "no pairs"),
        (IgnoresWeight, "weight"),
        (SumOfTerms, "mean"),
        (NoAttribute, "attributes"),
    ],
)
def test_broken_loss(loss, name):
    with pytest.raises(AssertionError, match=f"{loss.__name__}: property '{name}'"):
        check_loss(loss)
