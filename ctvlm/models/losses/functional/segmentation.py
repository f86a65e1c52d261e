"""Regions of patches or voxels against the true map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Places per case that are worked on at a time: 64x256x256 voxels of 21 classes would be 350 MB for each intermediate.
CHUNK = 65536


def segmentation_terms(logits_BNR1: Tensor, target: Tensor, mask_BN: Tensor, chunk: int = CHUNK) -> Tensor:
    """Soft cross-entropy plus soft Dice loss, as [sum over cases, number of cases] (2).

    Cross-entropy is the mean over the case's known places, background included. Dice is that of V-Net (Milletari et
    al., 2016), with squares in the denominator, so that it is smallest where the prediction equals the shares, also
    those between 0 and 1; it is the mean over the regions that the case's known places hold. A case without a known
    place does not count.

    Args:
        logits_BNR1: of N patches or voxels; column 0 is background.
        target: shares (B, N, R + 1) whose rows sum to 1, or, for voxels, region ids (B, N) of an integer dtype.
        mask_BN: places whose region is known.
        chunk: places worked on at a time; the backward pass computes each chunk's softmax again.
    """
    parts = [_sums(*part) for part in _parts(logits_BNR1, target, mask_BN, chunk)]
    entropy_B, overlap_BR, squares_BR, held_BR = (torch.stack(sums).sum(dim=0) for sums in zip(*parts, strict=True))
    known_B = mask_BN.sum(dim=1)
    present_BR = held_BR > 0
    dice_BR = 1 - 2 * overlap_BR / squares_BR.clamp(min=torch.finfo(squares_BR.dtype).tiny)
    dice_B = (dice_BR * present_BR).sum(dim=1) / present_BR.sum(dim=1).clamp(min=1)
    loss_B = entropy_B / known_B.clamp(min=1) + dice_B
    return torch.stack([loss_B.sum(), (known_B > 0).sum().to(loss_B.dtype)])


def _parts(logits_BNR1: Tensor, target: Tensor, mask_BN: Tensor, chunk: int) -> list[tuple]:
    # No place at all is one empty part, so that the loss is 0 and still reaches the logits.
    starts = range(0, max(1, mask_BN.shape[1]), chunk)
    return [(logits_BNR1[:, i : i + chunk], target[:, i : i + chunk], mask_BN[:, i : i + chunk]) for i in starts]


def _sums(logits_BNR1: Tensor, target: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return checkpoint(_sums_of_chunk, logits_BNR1, target, mask_BN, use_reentrant=False, preserve_rng_state=False)


def _sums_of_chunk(logits_BNR1: Tensor, target: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    log_probability = logits_BNR1.to(torch.promote_types(logits_BNR1.dtype, torch.float32)).log_softmax(dim=-1)
    if not target.is_floating_point():
        # Ids outside the scheme, such as -1 for unknown, are legal where the mask is False.
        target = F.one_hot(target.long().where(mask_BN, 0), logits_BNR1.shape[-1])
    target = target.to(log_probability.dtype) * mask_BN[..., None]
    entropy_B = -(target * log_probability).sum(dim=(1, 2))
    probability = log_probability.exp() * mask_BN[..., None]
    overlap_BR = (probability * target).sum(dim=1)[:, 1:]
    squares_BR = (probability.square() + target.square()).sum(dim=1)[:, 1:]
    return entropy_B, overlap_BR, squares_BR, target.sum(dim=1)[:, 1:]
