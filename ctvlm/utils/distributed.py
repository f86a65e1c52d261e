"""Differentiable all-gather, and decisions of all ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from ctvlm.utils.atomic import WriteError


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        rank, world_size = dist.get_rank(), dist.get_world_size()
        length = torch.tensor([len(x)], device=x.device)
        gathered = [torch.empty_like(length) for _ in range(world_size)]
        dist.all_gather(gathered, length)
        lengths = [int(n) for n in gathered]
        # Collectives need equal shapes: pad the first axis to the longest, and remove the padding afterwards.
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
    """Gather the rows of all ranks in rank order: (sum of all lengths, ...).

    Ranks can have different numbers of rows. The backward pass sums the gradients of a row over all ranks. If every
    rank computes the loss over all gathered rows and DDP averages the gradients over ranks, the result equals that of
    one process with the whole batch. Every rank must call this function, and its backward pass, equally often. With a
    single process it returns ``x``.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    return _AllGather.apply(x)


def any_rank(flag: Tensor) -> bool:
    """Whether a boolean scalar is true on any rank. Every rank must call this function."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        flag = flag.to(torch.uint8)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def raise_on_all_ranks(error: WriteError | None) -> None:
    """Raise an error on all ranks if one rank has one. Every rank must call this function."""
    nccl = dist.is_available() and dist.is_initialized() and dist.get_backend() == "nccl"
    if any_rank(torch.tensor(error is not None, device="cuda" if nccl else "cpu")):
        raise error or WriteError("another process cannot write its file")
