"""Each loss equals a naive loop in NumPy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ctvlm.models.losses import (
    AttentionFocusLoss,
    CrossModalContrastiveLoss,
    LogitScale,
    RegionAlignmentLoss,
    StepAlignmentLoss,
)
from ctvlm.models.losses.functional import step_attention

SCALE = 1 / 0.07


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def naive_info_nce(visual, text, ids, allowed=None):
    """Both directions, one pair at a time; equal ids share the positive mass."""
    total, count = 0.0, len(ids)
    for rows, columns in ((visual, text), (text, visual)):
        for i in range(count):
            others = [j for j in range(count) if allowed is None or allowed[i][j]]
            logits = {j: SCALE * float(np.dot(rows[i], columns[j])) for j in others}
            log_norm = math.log(sum(math.exp(value) for value in logits.values()))
            positives = [j for j in others if ids[j] == ids[i]]
            total += sum(log_norm - logits[j] for j in positives) / len(positives)
    return total / (2 * count)


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 2], [7, 7, 7, 7, 7], [3]])
def test_global_loss_equals_naive_loop(ids):
    image, text = unit(len(ids), 8, seed=1), unit(len(ids), 8, seed=2)
    loss = CrossModalContrastiveLoss().double()(image * 3.0, text * 0.2, torch.tensor(ids))
    assert loss.item() == pytest.approx(naive_info_nce(image.numpy(), text.numpy(), ids), rel=1e-6)


@pytest.mark.parametrize("cross_region", [True, False])
def test_region_loss_equals_naive_loop(cross_region):
    ids, regions = [0, 1, 1, 2, 3, 0], [4, 4, 5, 5, 4, 4]
    visual, text = unit(6, 8, seed=3), unit(6, 8, seed=4)
    loss = RegionAlignmentLoss(cross_region=cross_region).double()(
        visual, text, torch.tensor(ids), torch.tensor(regions)
    )
    allowed = None if cross_region else [[a == b for b in regions] for a in regions]
    assert float(loss) == pytest.approx(naive_info_nce(visual.numpy(), text.numpy(), ids, allowed), rel=1e-6)


def test_step_loss_equals_naive_loop():
    steps, patches = unit(2, 3, 8, seed=5), unit(2, 10, 8, seed=6)
    token_mask = torch.ones(2, 10, dtype=torch.bool)
    token_mask[1, 6:] = False
    step_mask = torch.tensor([[True, True, True], [True, False, False]])
    ids = torch.tensor([[1, 2, 3], [2, 0, 0]])
    attention = step_attention(steps, patches, 5.0, token_mask)
    pooled = (attention @ patches)[step_mask]
    loss = StepAlignmentLoss().double()(pooled, steps[step_mask], ids[step_mask])

    visual, text, flat_ids = [], [], []
    for b in range(2):
        for s in range(3):
            if not step_mask[b, s]:
                continue
            visible = [n for n in range(10) if token_mask[b, n]]
            weights = np.array([math.exp(5.0 * float(steps[b, s] @ patches[b, n])) for n in visible])
            pooled = sum(w * patches[b, n].numpy() for w, n in zip(weights / weights.sum(), visible, strict=True))
            visual.append(pooled / np.linalg.norm(pooled))
            text.append(steps[b, s].numpy())
            flat_ids.append(int(ids[b, s]))
    assert float(loss) == pytest.approx(naive_info_nce(visual, text, flat_ids), rel=1e-6)


def test_focus_loss_equals_naive_loop():
    attention = torch.rand(2, 3, 5, dtype=torch.float64).softmax(dim=-1)
    target = torch.zeros(2, 3, 5, dtype=torch.float64)
    target[0, 0, 1], target[0, 1, 2:4], target[1, 2] = 1.0, 0.5, 0.2
    rows = [(b, s) for b in range(2) for s in range(3) if target[b, s].sum() > 0]
    expected = sum(
        -sum(float(target[b, s, n]) * math.log(float(attention[b, s, n])) for n in range(5)) for b, s in rows
    )
    assert AttentionFocusLoss().terms(attention, target).tolist() == pytest.approx([expected, len(rows)], rel=1e-9)
    assert AttentionFocusLoss().terms(attention, torch.zeros_like(target)).tolist() == [0.0, 0.0]


def test_order_of_pairs_does_not_matter():
    image, text, ids = unit(6, 8, seed=1), unit(6, 8, seed=2), torch.tensor([0, 1, 1, 2, 3, 4])
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    loss = CrossModalContrastiveLoss().double()
    assert float(loss(image, text, ids)) == pytest.approx(float(loss(image[order], text[order], ids[order])), rel=1e-9)


def test_equal_texts_do_not_repel():
    """With all texts equal and all features equal, the loss is at its minimum: its gradient vanishes."""
    image = unit(1, 8).repeat(4, 1).requires_grad_()
    text = unit(1, 8).repeat(4, 1)
    CrossModalContrastiveLoss().double()(image, text, torch.zeros(4, dtype=torch.long)).backward()
    assert image.grad.abs().max() < 1e-9


@pytest.mark.parametrize("loss", [RegionAlignmentLoss(), StepAlignmentLoss()])
def test_a_batch_without_mentions_gives_zero_and_a_gradient(loss):
    empty, no_ids = torch.zeros(0, 8, requires_grad=True), torch.zeros(0, dtype=torch.long)
    regions = [no_ids] if isinstance(loss, RegionAlignmentLoss) else []
    value = loss(empty, empty, no_ids, *regions)
    value.backward()
    assert float(value) == 0.0
    assert loss.logit_scale.log_scale.grad is not None


def test_logit_scale_is_capped():
    scale = LogitScale()
    assert float(scale()) == pytest.approx(SCALE)
    with torch.no_grad():
        scale.log_scale.fill_(10.0)
    assert float(scale()) == pytest.approx(100.0)
