"""Every registered objective passes check_objective, and the check names what a broken objective does wrong."""

from __future__ import annotations

import pytest
import torch

import ctvlm.models  # noqa: F401 (registers everything)
from ctvlm.models.objectives import ClassificationObjective, VolumeTextObjective
from ctvlm.registry import OBJECTIVES
from ctvlm.structures import MeanTerms, Pairs
from ctvlm.testing import check_objective
from ctvlm.testing.objectives import LABELS

CLASSIFICATION = dict(head=dict(type="ClassificationHead", names=LABELS))
OPTIONS: dict[str, list[dict]] = {
    "AttentionFocusObjective": [{}],
    "ClassificationObjective": [CLASSIFICATION],
    "GenerationObjective": [dict(head=dict(type="CoTGenerationHead", vocab_size=320, embed_dims=16, num_heads=2))],
    "MaskedReconstructionObjective": [dict(decoder=dict(patch_size=(2, 4, 4), embed_dims=16))],
    "OppositeTextObjective": [{}, dict(view="step"), dict(loss=False)],
    "PointSegmentationObjective": [dict(head=dict(type="PointSegmentationHead", dims=8))],
    "PromptClassificationObjective": [
        dict(names=LABELS),
        dict(names=LABELS, templates=[("{}.", "No {}."), ("{} is seen.", "{} is not seen.")]),
    ],
    "RegionTextObjective": [{}, dict(loss=False)],
    "SegmentationObjective": [
        dict(head=dict(type="SegmentationHead")),
        dict(head=dict(type="VoxelSegmentationHead", dims=8)),
    ],
    "StepOrderObjective": [{}],
    "StepTextObjective": [{}, dict(pool_by_mask=False), dict(loss=False)],
    "VolumeTextObjective": [{}, dict(loss=False)],
}


def test_no_objective_is_left_out():
    registered = {name for name, cls in OBJECTIVES.module_dict.items() if cls.__module__.startswith("ctvlm.")}
    assert registered == set(OPTIONS)


@pytest.mark.parametrize(("name", "options"), [(name, o) for name, each in OPTIONS.items() for o in each])
def test_objective(name, options):
    check_objective(name, **options)


class ReadsOtherCases(VolumeTextObjective):
    def features(self, context):
        pairs = super().features(context)
        return Pairs(pairs.visual_MP - pairs.visual_MP.mean(dim=0), pairs.text_MP, pairs.text_ids_M)


class EncodesAgain(VolumeTextObjective):
    def features(self, context):
        context._encode(context.inputs, None)
        return super().features(context)


class ReturnsTensor(VolumeTextObjective):
    def features(self, context):
        return context.volume_BP


class UnusedParameter(VolumeTextObjective):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.unused = torch.nn.Parameter(torch.zeros(1))


class WritesEverything(VolumeTextObjective):
    def predict(self, context, keys):
        super().predict(context, self.needs)


class WritesUndeclared(VolumeTextObjective):
    def predict(self, context, keys):
        super().predict(context, keys)
        context.samples[0].pred_other = 1


class WritesNothing(VolumeTextObjective):
    def predict(self, context, keys):
        pass


class NeedsLabels(ClassificationObjective):
    def features(self, context):
        terms = super().features(context).sum_and_count_2
        return MeanTerms(torch.stack([terms[0] / terms[1], torch.ones(())]))


@pytest.mark.parametrize(
    ("objective", "name", "options"),
    [
        (ReadsOtherCases, "gradient caching", {}),
        (EncodesAgain, "one pass", {}),
        (ReturnsTensor, "features", {}),
        (UnusedParameter, "gradients", {}),
        (WritesEverything, "needs", {}),
        (WritesUndeclared, "needs", {}),
        (WritesNothing, "needs", {}),
        (NeedsLabels, "no targets", CLASSIFICATION),
    ],
)
def test_broken_objective(objective, name, options):
    with pytest.raises(AssertionError, match=f"{objective.__name__}: property '{name}'"):
        check_objective(objective, **options)
