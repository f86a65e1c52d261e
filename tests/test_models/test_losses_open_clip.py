"""Without equal texts, our losses are those of open_clip."""

import pytest
import torch
import torch.nn.functional as F

from ctvlm.models.losses import CrossModalContrastiveLoss, SigmoidContrastiveLoss
from ctvlm.structures import Pairs

open_clip_loss = pytest.importorskip("open_clip.loss")


def gradients(value, parameters):
    return [value.detach(), *torch.autograd.grad(value, parameters)]


@pytest.mark.parametrize("local_loss", [False, True])
@pytest.mark.parametrize("count", [1, 5, 16])
@pytest.mark.parametrize(
    "ours, theirs",
    [(CrossModalContrastiveLoss, open_clip_loss.ClipLoss), (SigmoidContrastiveLoss, open_clip_loss.SigLipLoss)],
)
def test_value_and_gradients_equal(ours, theirs, count, local_loss):
    generator = torch.Generator().manual_seed(count)
    visual, text = (torch.randn(count, 8, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    loss = ours(local_loss=local_loss).double()
    parameters = list(loss.parameters())
    bias = [loss.logit_bias] if hasattr(loss, "logit_bias") else []
    expected = theirs()(F.normalize(visual, dim=-1), F.normalize(text, dim=-1), loss.logit_scale.log_scale.exp(), *bias)
    found = loss(Pairs(visual, text, torch.arange(count)))
    inputs = [visual, text, *parameters]
    for ours_, theirs_ in zip(gradients(found, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=0, atol=1e-6)
