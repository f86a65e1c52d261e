import numpy as np
import pytest
import torch

from ctvlm.evaluation import OppositeTextMetric
from ctvlm.evaluation.functional import opposite_hits


def test_hits_equal_a_loop_and_ties_count_half():
    rng = np.random.default_rng(0)
    volume, texts = rng.normal(size=5), rng.normal(size=(7, 2, 5))
    texts[3, 1] = texts[3, 0]
    hits = opposite_hits(volume, texts)
    assert hits[3] == 0.5
    for number, (text, opposite) in enumerate(texts):
        if number != 3:
            assert hits[number] == float(text @ volume > opposite @ volume)
    with pytest.raises(ValueError, match="NaN"):
        opposite_hits(volume * np.nan, texts)


def case(number, volume, *pairs):
    return dict(
        case_id=str(number),
        pred_volume=torch.tensor(volume),
        pred_opposites=[dict(kind=kind, text="", opposite="") for kind, *_ in pairs],
        pred_opposite_texts=torch.tensor([[text, opposite] for _, text, opposite in pairs]),
    )


def test_blind_accuracy_shows_what_the_wording_gives_away():
    """Negations are told apart by their wording, sides only by the volume."""
    side, word = [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]
    other, no_word = [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]
    cases = [
        case(0, [1.0, 0.0, 0.1], ("laterality", side, other), ("negation", word, no_word)),
        case(1, [-1.0, 0.0, 0.1], ("laterality", other, side), ("negation", word, no_word)),
    ]
    metric = OppositeTextMetric(bootstrap=5)
    metric.process(None, cases)
    scores = metric.evaluate(2)
    assert scores["opposite_text/laterality"] == scores["opposite_text/negation"] == scores["opposite_text/mean"] == 1
    assert scores["opposite_text/negation_blind"] == 1
    assert scores["opposite_text/laterality_blind"] == 0.5
    assert np.isnan(scores["opposite_text/size"])
    assert [scores[f"opposite_text/num_{kind}"] for kind in ("negation", "laterality", "size")] == [2, 2, 0]
