"""Each contrastive loss equals a naive loop in NumPy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ctvlm.models.losses import (
    CrossModalContrastiveLoss,
    LogitScale,
    RegionAlignmentLoss,
    SigmoidContrastiveLoss,
    StepAlignmentLoss,
)
from ctvlm.models.losses.functional import same_text
from ctvlm.models.space import step_attention
from ctvlm.structures import Pairs

CONTRASTIVE = [CrossModalContrastiveLoss, RegionAlignmentLoss, StepAlignmentLoss, SigmoidContrastiveLoss]
SCALE = 1 / 0.07
IDS = [[0, 1, 2, 3, 4], [0, 0, 1, 2, 2], [7, 7, 7, 7, 7], [3], list(range(12)) * 2]


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def naive_positives(text, ids, similar=None):
    """Equal ids, or a cosine of the centred texts of at least ``similar``, pair by pair."""
    centred = [t - np.mean(text, axis=0) for t in text]

    def near(i, j):
        norm = np.linalg.norm(centred[i]) * np.linalg.norm(centred[j])
        return similar is not None and norm > 0 and float(np.dot(centred[i], centred[j])) / norm >= similar

    return [[ids[i] == ids[j] or near(i, j) for j in range(len(ids))] for i in range(len(ids))]


def naive_info_nce(visual, text, positives, allowed=None):
    """Both directions, one pair at a time; positives share the mass."""
    total, count = 0.0, len(positives)
    for rows, columns in ((visual, text), (text, visual)):
        for i in range(count):
            others = [j for j in range(count) if allowed is None or allowed[i][j]]
            logits = {j: SCALE * float(np.dot(rows[i], columns[j])) for j in others}
            log_norm = math.log(sum(math.exp(value) for value in logits.values()))
            mine = [j for j in others if positives[i][j]]
            total += sum(log_norm - logits[j] for j in mine) / len(mine)
    return total / (2 * count)


def naive_sigmoid(visual, text, positives, allowed=None):
    total, count = 0.0, len(positives)
    for i in range(count):
        for j in range(count):
            if allowed is None or allowed[i][j]:
                logit = 10.0 * float(np.dot(visual[i], text[j])) - 10.0
                total += math.log1p(math.exp(-logit if positives[i][j] else logit))
    return total / count


def naive(loss, visual, text, ids, regions=None):
    positives = naive_positives(text.numpy(), ids, loss.similar)
    allowed = None if loss.cross_region else [[a == b for b in regions] for a in regions]
    loop = naive_sigmoid if isinstance(loss, SigmoidContrastiveLoss) else naive_info_nce
    return loop(visual.numpy(), text.numpy(), positives, allowed)


@pytest.mark.parametrize("options", [{}, dict(similar=0.3), dict(cross_region=False), dict(local_loss=True)], ids=str)
@pytest.mark.parametrize("kind", CONTRASTIVE)
def test_rows_that_are_no_pairs_have_no_effect(kind, options):
    counts = torch.tensor([True, False, True, True, False, True])
    ids, regions = torch.tensor([0, 0, 1, 0, 2, 3]), torch.tensor([1, 1, 2, 1, 3, 2])
    grads = []
    for rows in (slice(None), counts):
        visual, text = (unit(6, 8, seed=seed).requires_grad_() for seed in (1, 2))
        part = counts if isinstance(rows, slice) else None
        loss = kind(**options).double()
        value = loss(Pairs(visual[rows], text[rows], ids[rows], regions[rows], part))
        value.backward()
        grads.append([value.detach(), visual.grad, text.grad, *(p.grad for p in loss.parameters())])
    for masked, selected in zip(*grads, strict=True):
        torch.testing.assert_close(masked, selected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", CONTRASTIVE)
def test_rows_of_which_none_is_a_pair_have_a_loss_of_zero(kind):
    visual = unit(3, 8, seed=1).requires_grad_()
    none = torch.zeros(3, dtype=torch.bool)
    value = kind().double()(Pairs(visual, unit(3, 8, seed=2), torch.arange(3), torch.arange(3), none))
    value.backward()
    assert value == 0 and (visual.grad == 0).all()


@pytest.mark.parametrize("ids", IDS, ids=str)
@pytest.mark.parametrize("options", [{}, dict(similar=0.3), dict(local_loss=True)], ids=str)
@pytest.mark.parametrize("kind", CONTRASTIVE)
def test_loss_equals_naive_loop(kind, options, ids):
    visual, text = unit(len(ids), 8, seed=1), unit(len(ids), 8, seed=2)
    loss = kind(**options).double()
    value = loss(Pairs(visual * 3.0, text * 0.2, torch.tensor(ids))).detach()
    assert value.item() == pytest.approx(naive(loss, visual, text, ids), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cross_region", [True, False])
@pytest.mark.parametrize("kind", CONTRASTIVE)
def test_loss_of_regions_equals_naive_loop(kind, cross_region, seed):
    generator = torch.Generator().manual_seed(seed)
    ids, regions = (torch.randint(4, (9,), generator=generator) for _ in range(2))
    visual, text = unit(9, 8, seed=seed + 3), unit(9, 8, seed=seed + 30)
    loss = kind(cross_region=cross_region, similar=0.4).double()
    value = loss(Pairs(visual, text, ids, regions)).detach()
    assert value.item() == pytest.approx(naive(loss, visual, text, ids.tolist(), regions.tolist()), rel=1e-6)


def test_same_region_negatives_need_regions():
    with pytest.raises(ValueError, match="cross_region"):
        RegionAlignmentLoss(cross_region=False)(Pairs(unit(2, 4), unit(2, 4), torch.arange(2)))


def test_pooled_step_equals_naive_loop():
    """Attention and pooling, one step and patch at a time."""
    steps, patches = unit(2, 3, 8, seed=5), unit(2, 10, 8, seed=6)
    token_mask = torch.ones(2, 10, dtype=torch.bool)
    token_mask[1, 6:] = False
    attention = step_attention(steps, patches, 5.0, token_mask)
    for b in range(2):
        visible = [n for n in range(10) if token_mask[b, n]]
        for s in range(3):
            weights = np.array([math.exp(5.0 * float(steps[b, s] @ patches[b, n])) for n in visible])
            pooled = sum(w * patches[b, n].numpy() for w, n in zip(weights / weights.sum(), visible, strict=True))
            np.testing.assert_allclose((attention[b, s] @ patches[b]).numpy(), pooled, rtol=1e-9)


def test_order_of_pairs_does_not_matter():
    image, text, ids = unit(6, 8, seed=1), unit(6, 8, seed=2), torch.tensor([0, 1, 1, 2, 3, 4])
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    for kind in CONTRASTIVE:
        loss = kind(similar=0.3).double()
        torch.testing.assert_close(loss(Pairs(image, text, ids)), loss(Pairs(image[order], text[order], ids[order])))


def test_equal_texts_do_not_repel():
    """With all texts equal and all features equal, the loss is at its minimum: its gradient vanishes."""
    image = unit(1, 8).repeat(4, 1).requires_grad_()
    text = unit(1, 8).repeat(4, 1)
    CrossModalContrastiveLoss().double()(Pairs(image, text, torch.zeros(4, dtype=torch.long))).backward()
    assert image.grad.abs().max() < 1e-9


def test_near_equal_texts_share_the_mass_and_no_others():
    base = unit(8, 16, seed=3)
    text = torch.cat([base, F.normalize(base[:2] + 0.02 * unit(2, 16, seed=4), dim=-1)])
    ids = torch.arange(10)
    expected = torch.eye(10, dtype=torch.bool)
    expected[[0, 8, 1, 9], [8, 0, 9, 1]] = True
    assert torch.equal(same_text(text, ids, text, ids, similar=0.9), expected)
    # All moved by a common vector, as embeddings of one field's texts are: still the same pairs.
    cone = text + 10 * unit(1, 16, seed=5)
    assert (F.normalize(cone, dim=-1) @ F.normalize(cone, dim=-1).t()).min() > 0.9
    assert torch.equal(same_text(cone, ids, cone, ids, similar=0.9), expected)


@pytest.mark.parametrize("spread", [1e-1, 1e-3])
def test_fallen_together_texts_are_not_all_positives(spread):
    """Else the loss of a collapsed text encoder would be at its minimum."""
    text = F.normalize(unit(1, 8) + spread * unit(20, 8, seed=1), dim=-1)
    ids = torch.arange(20)
    assert same_text(text, ids, text, ids, similar=0.9).sum() < 60


def test_no_gradient_through_what_is_similar():
    text = unit(6, 8).requires_grad_()
    assert not same_text(text, torch.arange(6), text, torch.arange(6), similar=0.5).requires_grad


@pytest.mark.parametrize("similar", [0, -0.5, 1.5])
def test_a_threshold_that_is_no_cosine_is_refused(similar):
    with pytest.raises(ValueError, match="similar is"):
        CrossModalContrastiveLoss(similar=similar)


@pytest.mark.parametrize("kind", CONTRASTIVE)
def test_local_loss_holds_its_own_rows_only(kind, monkeypatch):
    """As if on 8 ranks with equal pairs: what autograd keeps is about an eighth of the whole comparison."""
    monkeypatch.setattr("ctvlm.models.losses.contrastive.all_gather_with_grad", lambda x: torch.cat([x] * 8))
    # All rows at once: row by row, what one comparison needs would be computed again instead of kept.
    monkeypatch.setattr("ctvlm.models.losses.contrastive._ROWS", 1000)
    held = {}
    for local_loss in (False, True):
        sizes = {}

        def keep(tensor, sizes=sizes):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        visual, text = unit(64, 4).requires_grad_(), unit(64, 4, seed=1).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            kept_alive = kind(local_loss=local_loss).double()(Pairs(visual, text, torch.arange(64)))
        held[local_loss] = sum(sizes.values())
        del kept_alive
    assert held[True] < held[False] / 6


@pytest.mark.parametrize("kind", CONTRASTIVE)
@pytest.mark.parametrize("options", [{}, dict(cross_region=False, local_loss=True, similar=0.5)], ids=str)
def test_a_batch_without_pairs_gives_zero_and_a_gradient(kind, options):
    """No rank may wait for the gradient of another."""
    loss = kind(**options)
    empty, no_ids = torch.zeros(0, 8, requires_grad=True), torch.zeros(0, dtype=torch.long)
    value = loss(Pairs(empty, empty, no_ids, no_ids))
    value.backward()
    assert value.item() == 0.0
    assert all(p.grad is not None and p.grad.item() == 0 for p in loss.parameters())
    assert empty.grad is not None


def test_logit_scale_is_capped():
    scale = LogitScale()
    assert scale().item() == pytest.approx(SCALE)
    with torch.no_grad():
        scale.log_scale.fill_(10.0)
    scale.after_optimizer_step()
    assert scale().item() == pytest.approx(100.0)
