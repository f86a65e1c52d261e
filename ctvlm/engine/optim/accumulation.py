"""Check the size of batches, and the accumulation of gradients."""

from __future__ import annotations

from mmengine.dataset import InfiniteSampler
from torch import nn
from torch.utils.data import DataLoader

from ctvlm.engine.cli.config import ConfigError

SINGLE_CASE = (
    "train_dataloader.batch_size is 1, and the model compares the cases of a batch: their contrastive losses have no "
    "negatives and train nothing. Use a larger batch; model.chunk_size limits its memory"
)


def compares_cases(model: nn.Module) -> bool:
    """Whether a module of the model has a loss that compares the cases of a batch."""
    return any(getattr(module, "compares_cases", False) for module in model.modules())


def check_batches(loader: DataLoader) -> None:
    """Raise ConfigError if a training data loader has no batch."""
    if not hasattr(loader.dataset, "__len__") or len(loader) or isinstance(loader.sampler, InfiniteSampler):
        return
    cases, size = len(loader.dataset), getattr(loader.batch_sampler, "batch_size", loader.batch_size)
    reason = f"fewer than a batch of {size}, and drop_last is True" if cases else "no case"
    raise ConfigError(
        f"the training data have {cases} cases: {reason}. Lower train_dataloader.batch_size, set "
        "train_dataloader.drop_last=False, or add cases"
    )


def refuse_accumulation(model: nn.Module, optim_wrapper: dict, batch_size: int | None) -> None:
    """Reject gradient accumulation for a model with a module whose loss compares the cases of a batch.

    Accumulated gradients are those of small batches with few negatives, not those of the large batch. Gradient
    caching gives the gradient of the large batch exactly, in the same memory.

    Raises:
        ConfigError: ``optim_wrapper.accumulative_counts`` is above 1.
    """
    counts = optim_wrapper.get("accumulative_counts", 1)
    if counts == 1:
        return
    if not compares_cases(model):
        return
    size = batch_size or "n"
    large = batch_size * counts if batch_size else f"{counts}n"
    raise ConfigError(
        f"optim_wrapper.accumulative_counts is {counts}, expected 1: {type(model).__name__} compares the cases of a "
        f"batch, and accumulation does not compare cases of different batches. For the exact gradient of {large} "
        f"cases in the memory of {size}, set train_dataloader.batch_size={large} and model.chunk_size={size} instead "
        "(gradient caching)"
    )
