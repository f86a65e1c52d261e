"""Measure encoders in one process with alternating repeats, so that other load on the machine affects all equally."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ctvlm.experiments.benchmark.subjects import ModelSize, Subject

# Edge of the square matrices whose product gives the peak of the machine.
MATRIX = {"cpu": 1024, "cuda": 8192}
_aten = torch.ops.aten


@dataclass
class Cost:
    """Cost of one forward and backward pass.

    Attributes:
        tokens: per case.
        flops: of both passes; recomputed blocks count twice.
        first_s: time of the first pass, with compilation.
        peak_bytes: growth of the allocated memory, gradients included, weights and input excluded.
        peak_share: FLOP/s divided by ``matrix_flops_per_s``.
        matrix_flops_per_s: FLOP/s of a product of square matrices, measured in the same repeats.
        time_ratio: time divided by that of the first subject, as the median over repeats.
    """

    name: str
    parameters: int
    tokens: int
    flops: int
    forward_s: float
    backward_s: float
    first_s: float
    tokens_per_s: float
    peak_bytes: int
    peak_share: float
    matrix_flops_per_s: float
    time_ratio: float
    memory_ratio: float

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return asdict(self)


@dataclass
class Bench:
    """Random inputs on a device, and how to run one pass on them."""

    device: torch.device
    volume_BCDHW: Tensor
    region_map_BDHW: Tensor
    amp: bool = False

    @classmethod
    def of(cls, size: ModelSize, batch: int, device: torch.device, amp: bool = False, air: float = 0.0) -> Bench:
        """Volumes in [0, 1], and a region map. ``air``: share of the patch columns along x that is air (0)."""
        generator = torch.Generator().manual_seed(0)
        volume_BCDHW = torch.rand(batch, size.channels, *size.volume, generator=generator)
        volume_BCDHW[..., : round(air * size.grid[2]) * size.patch_size[2]] = 0
        region_map_BDHW = torch.randint(
            0, size.regions + 1, (batch, *size.volume), dtype=torch.uint8, generator=generator
        )
        return cls(device, volume_BCDHW.to(device), region_map_BDHW.to(device), amp)

    def step(self, subject: Subject) -> tuple[int, float, float]:
        """Tokens per case, and seconds of the forward and of the backward pass."""
        subject.encoder.zero_grad(set_to_none=True)
        synchronize(self.device)
        start = time.perf_counter()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
            tokens, loss = subject.run(self.volume_BCDHW, self.region_map_BDHW)
        synchronize(self.device)
        middle = time.perf_counter()
        loss.backward()
        synchronize(self.device)
        return tokens, middle - start, time.perf_counter() - middle


def compare(subjects: Sequence[Subject], bench: Bench, repeats: int) -> list[Cost]:
    """Measure all subjects; ratios are to the first one."""
    counted, first_s = {}, {}
    for subject in subjects:
        subject.encoder.to(bench.device).train()
        first_s[subject.name] = sum(bench.step(subject)[1:])
        counted[subject.name] = (count_flops(subject, bench), peak_growth(subject, bench))
    seconds: dict[str, list[tuple[float, float]]] = {subject.name: [] for subject in subjects}
    tokens, products = {}, []
    for _ in range(repeats):
        products.append(matrix_product(bench.device, bench.amp))
        for subject in subjects:
            tokens[subject.name], *times = bench.step(subject)
            seconds[subject.name].append((times[0], times[1]))
    flops_per_s = statistics.median(products)
    first = subjects[0].name
    costs = []
    for subject in subjects:
        flops, peak = counted[subject.name]
        forward, backward = (statistics.median(values) for values in zip(*seconds[subject.name]))
        ratios = [sum(mine) / sum(base) for mine, base in zip(seconds[subject.name], seconds[first])]
        total = statistics.median(map(sum, seconds[subject.name]))
        costs.append(
            Cost(
                name=subject.name,
                parameters=sum(p.numel() for p in subject.encoder.parameters()),
                tokens=tokens[subject.name],
                flops=flops,
                forward_s=forward,
                backward_s=backward,
                first_s=first_s[subject.name],
                tokens_per_s=tokens[subject.name] * len(bench.volume_BCDHW) / total,
                peak_bytes=peak,
                peak_share=flops / total / flops_per_s,
                matrix_flops_per_s=flops_per_s,
                time_ratio=statistics.median(ratios),
                memory_ratio=peak / counted[first][1],
            )
        )
    return costs


def count_flops(subject: Subject, bench: Bench) -> int:
    """Floating-point operations of one forward and backward pass, attention included."""
    return flops_of(lambda: bench.step(subject))


def peak_growth(subject: Subject, bench: Bench) -> int:
    """Largest growth of the memory that torch has allocated during one forward and backward pass, in bytes."""
    subject.encoder.zero_grad(set_to_none=True)
    return growth_of(lambda: bench.step(subject), bench.device)


def flops_of(run: Callable[[], object]) -> int:
    """Floating-point operations of a call, attention included. A compiled encoder runs without its graph."""
    with (
        torch.compiler.set_stance("force_eager"),
        FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter,
    ):
        run()
    return counter.get_total_flops()


def growth_of(run: Callable[[], object], device: torch.device) -> int:
    """Largest growth of the memory that torch has allocated during a call, in bytes."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = recorded.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    peak = current = 0
    for _, change in changes:
        current += change
        peak = max(peak, current)
    return peak


def matrix_product(device: torch.device, amp: bool) -> float:
    """FLOP/s of a product of square matrices."""
    edge = MATRIX.get(device.type, MATRIX["cpu"])
    matrix = torch.ones(edge, edge, device=device, dtype=torch.bfloat16 if amp else torch.float32)
    repeats = 4
    matrix @ matrix
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        matrix @ matrix
    synchronize(device)
    return 2 * edge**3 * repeats / (time.perf_counter() - start)


def synchronize(device: torch.device) -> None:
    """Wait for the kernels of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _attention_flops(query_shape, key_shape, value_shape, *args, **kwargs) -> int:
    return sdpa_flop_count(query_shape, key_shape, value_shape)


def _attention_backward_flops(grad_shape, query_shape, key_shape, value_shape, *args, **kwargs) -> int:
    # Five products instead of two: the scores again, and four gradients.
    return sdpa_flop_count(query_shape, key_shape, value_shape) * 5 // 2


# Kernels that torch's counter does not know.
CPU_ATTENTION = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}
