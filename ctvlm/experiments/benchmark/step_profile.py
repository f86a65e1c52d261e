"""Profile of training steps, by phase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from ctvlm.experiments.benchmark.training_step import TrainingStep

PHASES = ("data", "encoder", "text", "losses", "backward", "optimizer")
PREFIX = "ctvlm::"
COPY = "aten::copy_"
SYNCHRONISATION = "aten::_local_scalar_dense"


def profile_steps(step: TrainingStep, steps: int, trace: Path | None = None) -> dict[str, Any]:
    """Profile training steps after one warm-up step.

    Returns:
        ``phases``: per phase and step, the seconds on the host and the number of operators, copies and host
        synchronisations. Blocks that are recomputed in the backward pass count there as encoder or text.
        ``operators``: the ten operators with the longest own time on the host, per step.

    Args:
        trace: file for a trace in Chrome's format.
    """
    step.run()
    for name, part in (("encoder", step.model.backbone), ("text", step.model.text_encoder)):
        _mark(part, name)
    activities = [ProfilerActivity.CPU]
    if step.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as recorded:
        for _ in range(steps):
            with record_function(PREFIX + "data"):
                batch = step.load()
            with record_function(PREFIX + "losses"):
                loss = step.forward(batch)
            scaled = step.optim_wrapper.scale_loss(loss)
            with record_function(PREFIX + "backward"):
                step.optim_wrapper.backward(scaled)
            with record_function(PREFIX + "optimizer"):
                step.optim_wrapper.step()
                step.optim_wrapper.zero_grad()
    if trace is not None:
        recorded.export_chrome_trace(str(trace))
    # Of a phase on a GPU there are two events: the second one is on the device.
    events = [event for event in recorded.events() if event.device_type.name == "CPU"]
    averages = sorted(recorded.key_averages(), key=lambda row: row.self_cpu_time_total, reverse=True)
    operators = [row for row in averages if not row.key.startswith(PREFIX)][:10]
    return dict(
        steps=steps,
        phases=by_phase(events, steps),
        operators=[
            dict(name=row.key, calls=row.count / steps, seconds=row.self_cpu_time_total / 1e6 / steps)
            for row in operators
        ],
    )


def by_phase(events: Sequence[Any], steps: int) -> dict[str, dict[str, float]]:
    """Seconds and counts of each phase, per step. An operator belongs to the innermost phase around its start."""
    seconds: Counter[str] = Counter()
    counts: dict[str, Counter[str]] = {name: Counter() for name in PHASES}
    open_phases: list[tuple[float, str]] = []  # end, name
    for event in sorted(events, key=lambda event: (event.time_range.start, -event.time_range.end)):
        start, end = event.time_range.start, event.time_range.end
        while open_phases and open_phases[-1][0] <= start:
            open_phases.pop()
        inner = open_phases[-1][1] if open_phases else None
        if event.name.startswith(PREFIX):
            name = event.name.removeprefix(PREFIX)
            seconds[name] += end - start
            if inner is not None:
                seconds[inner] -= end - start
            open_phases.append((end, name))
        elif inner is not None and event.name.startswith("aten::"):
            counts[inner]["operators"] += 1
            counts[inner]["copies"] += event.name == COPY
            counts[inner]["synchronisations"] += event.name == SYNCHRONISATION
    return {
        name: dict(
            seconds=seconds[name] / 1e6 / steps,
            operators=counts[name]["operators"] / steps,
            copies=counts[name]["copies"] / steps,
            synchronisations=counts[name]["synchronisations"] / steps,
        )
        for name in PHASES
    }


def _mark(part: nn.Module, name: str) -> None:
    """Record the forward passes of a module as a phase."""
    forward = part.forward

    def recorded(*args: Any, **kwargs: Any) -> Any:
        with record_function(PREFIX + name):
            return forward(*args, **kwargs)

    part.forward = recorded
