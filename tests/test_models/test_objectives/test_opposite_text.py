"""The loss of opposites equals a loop over sentences; opposites that may be true are left out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ctvlm.models.losses import OppositeTextLoss
from ctvlm.models.objectives.opposite_sentences import opposite_sentences
from ctvlm.structures import CoTStep, CTDataSample
from ctvlm.testing.objectives import small_model

EFFUSION = CoTStep("There is a small right effusion.", (3,), ("effusion",))
OTHER_SIDE = CoTStep("There is a large left effusion.", (5,), ("effusion",))
SUMMARY = CoTStep("Overall: effusion and cyst.", (3, 9), ("effusion", "cyst"))
NORMAL = CoTStep("A normal right kidney is seen.", (15,), normal=True)


def kinds(*steps):
    return [
        (one.step, [kind for kind, _ in one.opposites]) for one in opposite_sentences(CTDataSample(steps=list(steps)))
    ]


def test_sides_that_may_be_true_are_left_out():
    every = ["negation", "laterality", "size"]
    assert kinds(EFFUSION, NORMAL, SUMMARY) == [(0, every), (1, ["negation"])]
    assert kinds(EFFUSION, OTHER_SIDE) == [(0, ["negation", "size"]), (1, ["negation", "size"])]
    # Another step says it.
    assert kinds(EFFUSION, CoTStep("There is a large right effusion."))[0] == (0, ["negation", "laterality"])


def test_loss_equals_a_loop_over_sentences():
    torch.manual_seed(0)
    visual, text, others = torch.randn(4, 6), torch.randn(4, 6), torch.randn(4, 3, 6)
    counts = [3, 1, 2, 1]
    mask = torch.tensor([[o < count for o in range(3)] for count in counts])
    loss = OppositeTextLoss()
    total, count = loss.terms(visual, text, others, mask)
    expected = 0.0
    for v, t, row, number in zip(visual, text, others, counts, strict=True):
        logits = torch.stack([F.cosine_similarity(v, x, dim=0) for x in (t, *row[:number])]) / 0.07
        expected += F.cross_entropy(logits[None], torch.zeros(1, dtype=torch.long)).item()
    assert count == 4
    assert total.item() == pytest.approx(expected, rel=1e-5)
    same = loss.terms(visual, text, text[:, None], torch.ones(4, 1, dtype=torch.bool))
    assert same[0].item() / 4 == pytest.approx(math.log(2))


def test_unknown_view_is_refused():
    with pytest.raises(ValueError, match="view='patch'"):
        small_model(dict(type="OppositeTextObjective", view="patch"))
