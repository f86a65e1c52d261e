"""The loss over prompts equals the zero-shot probability of a loop over known labels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ctvlm.evaluation.functional import prompt_embeddings, zero_shot_probabilities
from ctvlm.testing.objectives import LABELS, random_batch, small_model

TEMPLATES = [("{}.", "No {}."), ("{} is seen.", "{} is not seen.")]


def test_loss_equals_zero_shot_probabilities_of_the_known_labels():
    model = small_model(dict(type="PromptClassificationObjective", names=LABELS, templates=TEMPLATES))
    inputs, samples = random_batch()
    samples[0].labels = {LABELS[0]: 1, LABELS[1]: None}
    samples[1].labels = {}
    total, count = model.features(inputs, samples)["checked"].sum_and_count_2.tolist()

    texts = [text.format(name) for name in LABELS for pair in TEMPLATES for text in pair]
    embeddings = dict(zip(texts, model.embed_texts(texts).detach().numpy(), strict=True))
    sides = [prompt_embeddings(name, TEMPLATES, embeddings) for name in LABELS]
    present, absent = (np.stack(side) for side in zip(*sides, strict=True))
    volume = model.context(inputs).volume_BP.detach().numpy()
    rows = zero_shot_probabilities(volume, present, absent, scale=1 / 0.07)
    losses = [
        -math.log(p if sample.labels[name] else 1 - p)
        for sample, row in zip(samples, rows, strict=True)
        for name, p in zip(LABELS, row, strict=True)
        if sample.labels.get(name) is not None
    ]
    assert count == len(losses) == 3
    assert total == pytest.approx(sum(losses), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [(dict(names=[]), "each once"), (dict(names=["a", "a"]), "each once"), (dict(templates=[]), "no templates")],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        small_model(dict(type="PromptClassificationObjective", **options))
