import math

import pytest
import torch

from ctvlm.models.heads import ClassificationHead
from ctvlm.models.objectives import ClassificationObjective
from ctvlm.structures import CTDataSample, EncoderOutput
from tests.test_models.test_objectives.contexts import context

NAMES = ["Emphysema", "Lung nodule", "Cardiomegaly"]


def encoded(batch, width=8):
    tokens = torch.randn(batch, 6, width)
    return EncoderOutput(
        tokens=tokens,
        token_mask=torch.ones(batch, 6, dtype=torch.bool),
        positions=torch.zeros(batch, 6, 3),
        region_tokens=torch.zeros(batch, 2, width),
        patch_to_region=torch.zeros(batch, 6, 3),
        grid=(1, 2, 3),
    )


def samples(*labels):
    return [CTDataSample(labels=dict(zip(NAMES, row))) for row in labels]


def objective():
    return ClassificationObjective(head=dict(type="ClassificationHead", names=NAMES), vision_dims=8)


def test_loss_equals_a_loop_over_the_known_labels():
    model, out = objective(), encoded(3)
    labels = [(1, 0, None), (None, None, None), (0, 1, 1)]
    total, count = model.features(context(out, samples(*labels))).sum_and_count_2
    losses = [
        -math.log(p if label else 1 - p)
        for row, probabilities in zip(labels, model.head(out).sigmoid().tolist())
        for label, p in zip(row, probabilities)
        if label is not None
    ]
    assert count == 5
    assert total.item() == pytest.approx(sum(losses), abs=1e-5)


def test_without_a_known_label_the_loss_is_zero_and_has_a_gradient():
    model = objective()
    terms = model.features(context(encoded(2), [CTDataSample(labels={}), CTDataSample(labels={"Emphysema": None})]))
    assert terms.sum_and_count_2.tolist() == [0, 0]
    model.loss(terms).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_findings_are_learned():
    torch.manual_seed(0)
    model, out = objective(), encoded(8)
    labels = samples(*((i % 2, i // 2 % 2, None) for i in range(8)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(model.features(context(out, labels))).backward()
        optimizer.step()
    model.predict(context(out, labels), model.needs)
    for sample in labels:
        assert list(sample.pred_probabilities) == NAMES
        assert all((sample.pred_probabilities[n] > 0.5) == sample.labels[n] for n in NAMES[:2])


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_names_are_checked(names):
    with pytest.raises(ValueError, match="each once"):
        ClassificationHead(8, names)
