"""Check the accumulation of gradients."""

from __future__ import annotations

from torch import nn

from ctvlm.engine.cli.config import ConfigError


def refuse_accumulation(model: nn.Module, optim_wrapper: dict, batch_size: int | None) -> None:
    """Refuse to accumulate gradients of a model that contrasts the cases of a batch with one another.

    Accumulated gradients would be those of small batches, with few negatives, and not those of the large batch;
    gradient caching gives the latter exactly, in the same memory.

    Raises:
        ConfigError: ``optim_wrapper.accumulative_counts`` is above 1.
    """
    counts = optim_wrapper.get("accumulative_counts", 1)
    if counts == 1:
        return
    from ctvlm.models.losses.contrastive import ContrastiveLoss  # here: it brings all models along

    if not any(isinstance(module, ContrastiveLoss) for module in model.modules()):
        return
    size = batch_size or "n"
    large = batch_size * counts if batch_size else f"{counts}n"
    raise ConfigError(
        f"optim_wrapper.accumulative_counts is {counts}, expected 1: {type(model).__name__} contrasts the cases of a "
        f"batch, and {counts} accumulated batches of {size} never see one another. For the exact gradient of {large} "
        f"cases in the memory of {size}, set train_dataloader.batch_size={large} and model.chunk_size={size} instead "
        "(gradient caching)"
    )
