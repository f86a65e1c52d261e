"""Selection of the patches in and around the body."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.layers.patch_cells import patch_maxima
from ctvlm.structures import TokenContext


def body_patches(channel_BDHW: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """True for patches that become tokens (B, d*h*w).

    A patch is air if its maximum in the soft-tissue window (scaled to [0, 1]) is 0, see ``body_of_air``.
    """
    size = [s // g for s, g in zip(channel_BDHW.shape[1:], grid)]
    return body_of_air(F.max_pool3d(channel_BDHW.detach()[:, None], size)[:, 0] <= 0)


def body_of_hu(
    volumes: Iterable[Tensor], grid: tuple[int, int, int], window: Callable[[Tensor], Tensor], channel: int = 0
) -> Tensor:
    """``body_patches`` of volumes in HU (1, D, H, W), on their device.

    Args:
        volumes: a batch, or a list.
        window: from HU (B, 1, d, h, w) to channels (B, C, d, h, w).
        channel: the soft-tissue window.
    """
    # Windows are monotone, so the maximum can be taken first.
    highest_B1dhw = patch_maxima(volumes, grid).unflatten(1, grid)[:, None]
    return body_of_air(window(highest_B1dhw)[:, channel] <= 0)


def body_of_air(air_Bdhw: Tensor) -> Tensor:
    """True for patches of the body and of air that it encloses (B, d*h*w), from the patches that contain only air.

    Air that is connected to the in-plane border within its slice of the patch grid is outside the body and is dropped.
    Enclosed air (lung, bowel) is kept. The flood fill is per slice, because in 3D it would enter a lung that is cut by
    the end of the volume. A case that contains only air keeps all its patches.
    """
    batch = air_Bdhw.shape[0]
    air = air_Bdhw.flatten(0, 1)
    # The loop ends when nothing changes, which depends on the data. An exported graph has no such loop.
    outside = _outside_by_closure(air) if torch.compiler.is_compiling() else _outside_by_growth(air)
    keep_BN = ~outside.view(batch, -1)
    return keep_BN | ~keep_BN.any(dim=1, keepdim=True)


def _outside_by_growth(air_xhw: Tensor) -> Tensor:
    """Air that is connected to the border of its slice."""
    _, h, w = air_xhw.shape
    outside = air_xhw & _border(h, w, air_xhw.device)
    # Each iteration grows by one patch; no path is longer than the number of patches of a slice.
    for _ in range(h * w):
        grown = _grow(outside) & air_xhw
        if torch.equal(grown, outside):
            break
        outside = grown
    return outside


def _outside_by_closure(air_xhw: Tensor) -> Tensor:
    """The same in a fixed number of operations: repeated squaring doubles the length of the paths between patches."""
    _, h, w = air_xhw.shape
    cells = torch.arange(h * w, device=air_xhw.device)
    y, x = cells // w, cells % w
    near = (y[:, None] - y).abs() + (x[:, None] - x).abs() <= 1
    air_xn = air_xhw.flatten(1)
    connected_xnn = (near & air_xn[:, :, None] & air_xn[:, None, :]).float()
    for _ in range((h * w - 1).bit_length()):
        connected_xnn = (connected_xnn @ connected_xnn > 0).float()
    border_n1 = _border(h, w, air_xhw.device).flatten()[:, None].float()
    return (connected_xnn @ border_n1 > 0).view(air_xhw.shape)


def _border(h: int, w: int, device: torch.device) -> Tensor:
    border = torch.ones(h, w, dtype=torch.bool, device=device)
    border[1:-1, 1:-1] = False
    return border


def _grow(mask: Tensor) -> Tensor:
    """The mask and its four neighbours."""
    padded = F.pad(mask, (1, 1, 1, 1))
    return mask | padded[:, :-2, 1:-1] | padded[:, 2:, 1:-1] | padded[:, 1:-1, :-2] | padded[:, 1:-1, 2:]


def keep_tokens(ctx: TokenContext, keep_BN: Tensor, multiple: int = 1) -> TokenContext:
    """Drop patches, or mask them where a graph is exported, whose shapes do not depend on the data.

    The number of tokens depends on ``keep_BN``: on the host it is known without a wait for the device of ``ctx``.
    With a ``multiple``, for a compiled encoder, all batches differ only in their sizes, so that they share a graph.
    """
    if torch.compiler.is_compiling():
        return TokenContext(ctx.grid, ctx.index_BN, keep_BN, ctx.spacing_B3)
    device = ctx.index_BN.device
    if multiple == 1 and bool(keep_BN.all()):
        return ctx
    index_Bn, mask_Bn = kept_index(keep_BN, multiple)
    if index_Bn.shape[1] == ctx.num_cells:
        index_Bn, mask_Bn = ctx.index_BN, keep_BN
    if multiple == 1 and bool(mask_Bn.all()):  # such as one case: attention without a mask is cheaper
        return TokenContext(ctx.grid, index_Bn.to(device, non_blocking=True), None, ctx.spacing_B3)
    kept_T = mask_Bn.flatten().nonzero()[:, 0].to(device, non_blocking=True) if multiple == 1 else None
    index_Bn, mask_Bn = (column.contiguous().to(device, non_blocking=True) for column in (index_Bn, mask_Bn))
    return TokenContext(ctx.grid, index_Bn, mask_Bn, ctx.spacing_B3, kept_T=kept_T)


def kept_index(keep_BN: Tensor, multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Indices of the kept patches, padded to the largest number in the batch, rounded up to a multiple.

    Returns:
        Index (B, n) in grid order, padded with dropped patches, and a mask (B, n) that is False for padding.
    """
    longest = min(-(-int(keep_BN.sum(dim=1).max()) // multiple) * multiple, keep_BN.shape[1])
    index_Bn = (~keep_BN).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
    return index_Bn, keep_BN.gather(1, index_Bn)
