"""Which of two steps of a case comes first."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def step_order(score_BS: Tensor, mask_BS: Tensor) -> Tensor:
    """RankNet (Burges et al., 2005) on the steps of each case, as [sum over cases, number of cases] (2).

    The probability that one step comes before another is the sigmoid of the difference of their scores. A case's loss
    is the mean over its pairs of steps, log 2 by chance; a case with fewer than two steps does not count.
    """
    earlier_BSS = (mask_BS[:, :, None] & mask_BS[:, None, :]).triu(diagonal=1)
    difference_BSS = score_BS[:, :, None] - score_BS[:, None, :]
    pairs_B = earlier_BSS.sum(dim=(1, 2))
    loss_B = (F.softplus(-difference_BSS) * earlier_BSS).sum(dim=(1, 2)) / pairs_B.clamp(min=1)
    return torch.stack([loss_B.sum(), (pairs_B > 0).sum().to(loss_B.dtype)])
