"""Losses that are means over parts of cases equal a naive loop, and add up over chunks of a batch."""

import math

import pytest
import torch

from ctvlm.models.losses import AttentionFocusLoss, SegmentationLoss, StepOrderLoss
from ctvlm.models.losses.functional import segmentation_terms, step_order

B, N, R = 4, 30, 5


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_segmentation(logits, target, mask):
    total, count = 0.0, 0
    for b in range(len(logits)):
        places = [n for n in range(logits.shape[1]) if mask[b, n]]
        if not places:
            continue
        probability = {n: [math.exp(x) for x in logits[b, n].tolist()] for n in places}
        probability = {n: [x / sum(row) for x in row] for n, row in probability.items()}
        shares = {n: target[b, n].tolist() for n in places}
        entropy = sum(-t * math.log(p) for n in places for t, p in zip(shares[n], probability[n])) / len(places)
        dice = []
        for r in range(1, logits.shape[2]):
            if sum(shares[n][r] for n in places) > 0:
                both = sum(shares[n][r] * probability[n][r] for n in places)
                squares = sum(shares[n][r] ** 2 + probability[n][r] ** 2 for n in places)
                dice.append(1 - 2 * both / squares)
        total += entropy + (sum(dice) / len(dice) if dice else 0.0)
        count += 1
    return [total, count]


def regions(seed):
    """Logits, shares of which some regions are nowhere, and what is known; the last case is unknown."""
    shares = (3 * random(B, N, R + 1, seed=seed + 10)).softmax(dim=-1)
    shares[0, :, 3:] = 0
    shares[1, :, 1:] = 0
    shares[..., 0] = 1 - shares[..., 1:].sum(dim=-1)
    mask = random(B, N, seed=seed + 20) > 0
    mask[-1] = False
    return random(B, N, R + 1, seed=seed), shares, mask


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("chunk", [1, 7, N, 1000])
def test_segmentation_equals_naive_loop(seed, chunk):
    logits, shares, mask = regions(seed)
    assert segmentation_terms(logits, shares, mask, chunk).tolist() == pytest.approx(
        naive_segmentation(logits, shares, mask), rel=1e-9
    )


def test_segmentation_of_ids_equals_that_of_their_shares():
    logits, _, mask = regions(0)
    ids = torch.arange(B * N).view(B, N) % (R + 1)
    shares = torch.nn.functional.one_hot(ids, R + 1).double()
    unknown = ids.where(mask, -1).to(torch.int16)
    assert torch.equal(SegmentationLoss().terms(logits, unknown, mask), SegmentationLoss().terms(logits, shares, mask))


def test_segmentation_gradient_does_not_depend_on_chunks():
    logits, shares, mask = regions(1)
    gradients = []
    for chunk in (7, 1000):
        leaf = logits.clone().requires_grad_()
        segmentation_terms(leaf, shares, mask, chunk)[0].backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
    assert not gradients[0][~mask].any()


def test_segmentation_is_least_where_the_shares_are():
    """Also for shares between 0 and 1: the gradient vanishes there."""
    _, shares, mask = regions(2)
    logits = shares.clamp(min=1e-30).log().requires_grad_()
    SegmentationLoss().terms(logits, shares, mask)[0].backward()
    assert logits.grad.abs().max() < 1e-9


@pytest.mark.parametrize("places", [0, 4])
def test_segmentation_of_nothing_known_gives_zero_and_a_gradient(places):
    logits = random(2, places, R + 1).requires_grad_()
    terms = SegmentationLoss().terms(logits, torch.zeros(2, places, R + 1), torch.zeros(2, places, dtype=torch.bool))
    terms[0].backward()
    assert terms.tolist() == [0, 0]
    assert not logits.grad.any()


def test_a_confident_wrong_prediction_in_half_precision_stays_finite():
    logits = torch.zeros(1, 4, 3, dtype=torch.bfloat16)
    logits[..., 0] = 1e4
    logits.requires_grad_()
    terms = SegmentationLoss().terms(logits, torch.full((1, 4), 2), torch.ones(1, 4, dtype=torch.bool))
    terms[0].backward()
    assert torch.isfinite(terms).all() and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("seed", range(3))
def test_focus_equals_naive_loop(seed):
    attention = random(2, 3, 5, seed=seed).softmax(dim=-1)
    target = torch.zeros(2, 3, 5, dtype=torch.float64)
    target[0, 0, 1], target[0, 1, 2:4], target[1, 2] = 1.0, 0.5, 0.2
    rows = [(b, s) for b in range(2) for s in range(3) if target[b, s].sum() > 0]
    expected = sum(
        -sum(float(target[b, s, n]) * math.log(float(attention[b, s, n])) for n in range(5)) for b, s in rows
    )
    assert AttentionFocusLoss().terms(attention, target).tolist() == pytest.approx([expected, len(rows)], rel=1e-9)
    assert AttentionFocusLoss().terms(attention, torch.zeros_like(target)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(3))
def test_order_equals_naive_loop(seed):
    scores, lengths = random(4, 5, seed=seed), [5, 2, 1, 0]
    mask = torch.tensor([[s < n for s in range(5)] for n in lengths])
    total = 0.0
    for case, length in zip(scores.tolist(), lengths, strict=True):
        pairs = [(i, j) for i in range(length) for j in range(i + 1, length)]
        total += sum(math.log1p(math.exp(case[j] - case[i])) for i, j in pairs) / max(1, len(pairs))
    assert step_order(scores, mask).tolist() == pytest.approx([total, 2], rel=1e-9)


def test_order_is_learned_from_features_that_show_it():
    """Steps whose feature grows along a direction are put in order; before training it is a guess of even odds."""
    torch.manual_seed(0)
    loss = StepOrderLoss(embed_dims=4)
    pooled = torch.randn(8, 6, 4) + torch.arange(6)[None, :, None] * torch.tensor([2.0, 0, 0, 0])
    mask = torch.ones(8, 6, dtype=torch.bool)
    with torch.no_grad():
        loss.score.weight.zero_()
    assert (loss.terms(pooled, mask)[0] / 8).item() == pytest.approx(math.log(2))
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.3)
    for _ in range(50):
        optimizer.zero_grad()
        loss.terms(pooled, mask)[0].backward()
        optimizer.step()
    assert (loss.terms(pooled, mask)[0] / 8).item() < 0.4


def test_terms_add_up_over_chunks():
    logits, shares, mask = regions(3)
    parts = sum(SegmentationLoss().terms(logits[i : i + 1], shares[i : i + 1], mask[i : i + 1]) for i in range(B))
    torch.testing.assert_close(parts, SegmentationLoss().terms(logits, shares, mask))
    loss, pooled, steps = StepOrderLoss(embed_dims=6).double(), random(B, 5, 6), random(B, 5) > 0
    parts = sum(loss.terms(pooled[i : i + 1], steps[i : i + 1]) for i in range(B))
    torch.testing.assert_close(parts, loss.terms(pooled, steps))
