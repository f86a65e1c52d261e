"""Which patches lie in or around the body."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def body_patches(channel_BDHW: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """True for patches worth a token (B, d*h*w).

    A patch is *air* where its maximum in the soft-tissue window (scaled to [0, 1]) is 0. Air that is
    connected, within its slice of the patch grid, to the in-plane border lies outside the body and is dropped;
    enclosed air (lung, bowel) stays. The fill is per slice, because in 3D it would leak into a lung that the
    volume's end cuts open. A case of nothing but air keeps all its patches.
    """
    batch = channel_BDHW.shape[0]
    d, h, w = grid
    size = tuple(s // g for s, g in zip(channel_BDHW.shape[1:], grid))
    air_Bdhw = F.max_pool3d(channel_BDHW.detach()[:, None], size)[:, 0] <= 0
    air = air_Bdhw.reshape(batch * d, h, w)
    outside = air & _border(h, w, air.device)
    # Each round grows by one patch; no path is longer than the number of patches of a slice.
    for _ in range(h * w):
        grown = _grow(outside) & air
        if torch.equal(grown, outside):
            break
        outside = grown
    keep_BN = ~outside.view(batch, -1)
    return keep_BN | ~keep_BN.any(dim=1, keepdim=True)


def _border(h: int, w: int, device: torch.device) -> Tensor:
    border = torch.ones(h, w, dtype=torch.bool, device=device)
    border[1:-1, 1:-1] = False
    return border


def _grow(mask: Tensor) -> Tensor:
    """The mask and its four neighbours."""
    padded = F.pad(mask, (1, 1, 1, 1))
    return mask | padded[:, :-2, 1:-1] | padded[:, 2:, 1:-1] | padded[:, 1:-1, :-2] | padded[:, 1:-1, 2:]


def kept_index(keep_BN: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the kept patches, padded to the batch's longest case.

    Returns:
        index (B, n), in grid order, filled up with dropped patches, and a mask (B, n) that is False there.
    """
    longest = int(keep_BN.sum(dim=1).max())
    index_Bn = (~keep_BN).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
    return index_Bn, keep_BN.gather(1, index_Bn)
