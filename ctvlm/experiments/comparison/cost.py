"""Cost of the embedding of one case."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import nn

from ctvlm.experiments.benchmark.measure import flops_of, growth_of, synchronize
from ctvlm.utils import CTVLMError


@dataclass(frozen=True)
class InferenceCost:
    """Cost of the volume embedding of one case that is in memory: no file is read, no text embedded.

    Attributes:
        parameters: of the whole model.
        encoder_parameters: of its vision encoder.
        flops: of one forward pass.
        seconds: median of the repeats after a warm-up; at least one.
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

    @classmethod
    def of_dump(cls, content: Mapping[str, Any]) -> InferenceCost:
        """The cost that a dump contains.

        Raises:
            CTVLMError: the content is not a cost.
        """
        names = {field.name for field in fields(cls)}
        numbers = [content.get(name) for name in names - {"shape", "device"}]
        shape = content.get("shape", ())
        valid = content.keys() == names and all(isinstance(number, (int, float)) for number in numbers)
        if not valid or not isinstance(shape, (list, tuple)) or len(shape) != 3:
            raise CTVLMError(f"cost: found {dict(content)}; expected numbers for {sorted(names)}. Write the dump again")
        depth, height, width = map(int, shape)
        return cls(**{**content, "shape": (depth, height, width)})

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
    limit_s: float = 20.0,
) -> InferenceCost:
    """Measure ``embed``, which computes the volume embedding of one case with ``model``.

    Args:
        limit_s: no repeat starts after this time, so that slow models do not take minutes.
    """
    flops, peak_bytes = flops_of(embed), growth_of(embed, device)  # they are also the warm-up
    seconds: list[float] = []
    while not seconds or (len(seconds) < repeats and sum(seconds) < limit_s):
        synchronize(device)
        start = time.perf_counter()
        embed()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    encoder: nn.Module = getattr(model, "backbone", model)  # type: ignore[assignment]
    return InferenceCost(
        parameters=_parameters(model),
        encoder_parameters=_parameters(encoder),
        flops=flops,
        seconds=statistics.median(seconds),
        peak_bytes=peak_bytes,
        shape=shape,
        device=str(device),
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
