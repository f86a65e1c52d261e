import math

import pytest
import torch

from ctvlm.models.heads import ClassificationHead
from ctvlm.structures import CTDataSample, EncoderOutput

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


def test_loss_equals_a_loop_over_the_known_labels():
    head, out = ClassificationHead(8, NAMES), encoded(3)
    labels = [(1, 0, None), (None, None, None), (0, 1, 1)]
    total, count = head.terms(out, None, {}, samples(*labels))
    losses = [
        -math.log(p if label else 1 - p)
        for row, probabilities in zip(labels, head(out).sigmoid().tolist())
        for label, p in zip(row, probabilities)
        if label is not None
    ]
    assert count == 5
    assert total.item() == pytest.approx(sum(losses), abs=1e-5)


def test_no_known_label_is_nothing_with_a_gradient():
    head, out = ClassificationHead(8, NAMES), encoded(2)
    terms = head.terms(out, None, {}, [CTDataSample(labels={}), CTDataSample(labels={"Emphysema": None})])
    assert terms.tolist() == [0, 0]
    terms[0].backward()
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


def test_learns_to_tell_findings_apart():
    torch.manual_seed(0)
    head, out = ClassificationHead(8, NAMES), encoded(8)
    labels = samples(*((i % 2, i // 2 % 2, None) for i in range(8)))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(60):
        total, count = head.terms(out, None, {}, labels)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    head.predict(out, {}, labels)
    for sample in labels:
        assert list(sample.pred_probabilities) == NAMES
        assert all((sample.pred_probabilities[n] > 0.5) == sample.labels[n] for n in NAMES[:2])


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_names_are_checked(names):
    with pytest.raises(ValueError, match="each once"):
        ClassificationHead(8, names)
