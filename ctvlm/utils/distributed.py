"""Gathering features of all ranks, with their gradients."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        rank, world_size = dist.get_rank(), dist.get_world_size()
        length = torch.tensor([len(x)], device=x.device)
        lengths = [torch.empty_like(length) for _ in range(world_size)]
        dist.all_gather(lengths, length)
        lengths = [int(n) for n in lengths]
        # Collectives want equal shapes: pad the first axis to the longest, and cut after gathering.
        padded = x.new_zeros((max(lengths), *x.shape[1:]))
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in range(world_size)]
        dist.all_gather(parts, padded)
        ctx.start = sum(lengths[:rank])
        ctx.length = len(x)
        return torch.cat([part[:n] for part, n in zip(parts, lengths)])

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad[ctx.start : ctx.start + ctx.length]


def all_gather_with_grad(x: Tensor) -> Tensor:
    """Rows of every rank in rank order, (sum of all ranks' lengths, ...); ranks may hold different numbers of rows.

    The backward pass sums the gradients that all ranks have for a row. When every rank computes the loss
    over all gathered rows, and DDP averages the parameters' gradients over ranks, the result equals that of
    one process that holds the whole batch. Every rank must call this the same number of times, also in the
    backward pass. One process: returns ``x``.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    return _AllGather.apply(x)
