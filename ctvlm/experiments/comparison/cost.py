"""Cost of the embedding of one case."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import nn

from ctvlm.experiments.benchmark.measure import flops_of, growth_of, synchronize


@dataclass(frozen=True)
class InferenceCost:
    """Cost of the volume embedding of one case that is in memory: no file is read, no text embedded.

    Attributes:
        parameters: of the whole model.
        encoder_parameters: of its vision encoder.
        flops: of one forward pass.
        seconds: median of the repeats after a warm-up.
        peak_bytes: growth of the memory that torch allocates; weights and input excluded.
        shape: of the input in voxels (D, H, W).
    """

    parameters: int
    encoder_parameters: int
    flops: int
    seconds: float
    peak_bytes: int
    shape: tuple[int, int, int]
    device: str

    def numbers(self) -> dict[str, float]:
        """The costs without the conditions of the measurement."""
        return {key: value for key, value in asdict(self).items() if key not in ("shape", "device")}


@torch.no_grad()
def inference_cost(
    embed: Callable[[], object],
    model: nn.Module,
    shape: tuple[int, int, int],
    device: torch.device,
    repeats: int = 5,
) -> InferenceCost:
    """Measure ``embed``, which computes the volume embedding of one case with ``model``."""
    embed()  # warm-up
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        embed()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    encoder: nn.Module = getattr(model, "backbone", model)  # type: ignore[assignment]
    return InferenceCost(
        parameters=_parameters(model),
        encoder_parameters=_parameters(encoder),
        flops=flops_of(embed),
        seconds=statistics.median(seconds),
        peak_bytes=growth_of(embed, device),
        shape=shape,
        device=str(device),
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
