"""Copies of the following batch to a GPU, while the model trains on the present one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ctvlm.engine.model_wrapper import unwrap_model


class Copies(Protocol):
    """How batches are copied."""

    def start(self, batch: Any) -> Any:
        """Begin to copy a batch; returns the copy, which is not complete yet."""

    def finish(self, batch: Any) -> None:
        """Let the following operations wait for all copies."""


class DeviceCopies:
    """Copies ``inputs`` of a batch to a CUDA device in a stream of its own; other entries stay on the host.

    ``host_inputs`` of the copied batch are the inputs on the host, whose values can be read without a wait.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def start(self, batch: Any) -> Any:
        """Begin to copy a batch."""
        with torch.cuda.stream(self.stream):
            return {**batch, "inputs": moved(batch["inputs"], self.device), "host_inputs": batch["inputs"]}

    def finish(self, batch: Any) -> None:
        """Let the following operations of the model wait for all copies."""
        model = torch.cuda.current_stream(self.device)
        model.wait_stream(self.stream)
        for tensor in _tensors(batch["inputs"]):
            tensor.record_stream(model)  # its memory is not used again before the model has read it


def copies_of(model: nn.Module, num_workers: int) -> Copies | None:
    """How batches for a model are copied ahead.

    None: it is not on a GPU, no data workers load ahead, or the model copies the cases itself, a part at a time.
    """
    preprocessor = getattr(unwrap_model(model), "data_preprocessor", None)
    device = torch.device(getattr(preprocessor, "device", "cpu"))
    if device.type != "cuda" or not num_workers or getattr(preprocessor, "by_case", True):
        return None
    return DeviceCopies(device)


def copied_ahead(batches: Iterator[Any], copies: Copies) -> Iterator[Any]:
    """The copied batches. The copy of a batch begins before the one before it is given.

    An error of a batch is raised after all batches before it have been given.
    """
    failure: Exception | None = None
    following: list[Any] = [copies.start(batch) for batch in [next(batches, None)] if batch is not None]
    while following:
        batch = following.pop()
        # First, so that the model does not wait for the copy that begins now.
        copies.finish(batch)
        try:
            following += [copies.start(one) for one in [next(batches, None)] if one is not None]
        except Exception as error:
            failure = error
        yield batch
    if failure is not None:
        raise failure


def moved(value: Any, device: torch.device) -> Any:
    """The tensors of lists, tuples and dictionaries on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: moved(one, device) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(moved(one, device) for one in value)
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tensors(one)
