"""Memory and time of a training at full size on H100 GPUs, computed from the cost of a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mmengine.config import Config

from ctvlm.experiments.benchmark.scale import STEPS, StepCost
from ctvlm.utils import CTVLMError

PEAK_FLOPS = 989e12  # bfloat16 without sparsity, NVIDIA's data sheet of the H100 SXM
MEMORY = 80e9
LINK = 450e9  # bytes/s of NVLink 4 in one direction
# Assumptions.
MFU = 0.35  # share of the peak that a step reaches
RESERVE = 0.2  # share of the memory for temporary tensors of the backward pass, fragmentation and libraries
VOLUMES = 47_149  # CT-RATE

ASSUMPTIONS = (
    f"Computed, not measured. Assumptions: H100 with {PEAK_FLOPS / 1e12:.0f} TFLOP/s (bf16, dense) and "
    f"{MEMORY / 1e9:.0f} GB, of which {RESERVE:.0%} stay free for temporary tensors; MFU {MFU:.2f}; NVLink at "
    f"{LINK / 1e9:.0f} GB/s; `--amp` (bf16); {VOLUMES:,} volumes per epoch; input keeps up; "
    f"all patches are encoded; {STEPS} reasoning steps per case. "
    "Memory: weights, gradients, DDP's buckets and optimizer state in fp32, bf16 copies of the weights, tensors kept "
    "for the backward pass, two batches of input, exchanged features and similarities."
)


@dataclass(frozen=True)
class Plan:
    """One training on some GPUs; operations, bytes and seconds are those of a step on one GPU.

    Attributes:
        batch: cases per GPU.
        plain_bytes, checkpointed_bytes: memory without and with activation checkpointing.
        checkpointed: whether checkpointing is recommended: without it, the step does not fit.
    """

    name: str
    gpus: int
    batch: int
    strategy: str
    tokens: int
    flops: int
    plain_bytes: int
    checkpointed_bytes: int
    checkpointed: bool
    reduced_bytes: int
    reduce_s: float
    step_s: float
    epochs: int
    hours: float


def plan(name: str, cfg: Config, cost: StepCost, gpus: int) -> Plan:
    """Batch, checkpointing and time on a number of GPUs.

    The batch is that of the config, halved until it fits with checkpointing. Checkpointing is used if the step does not
    fit without it, because it costs time.

    Raises:
        CTVLMError: not even one case fits.
    """
    sharded = cfg.optim_wrapper.optimizer.type == "ShardedOptimizer"
    batch, limit = cfg.train_dataloader.batch_size, MEMORY * (1 - RESERVE)
    while memory(cost, batch, gpus, True, sharded) > limit:
        if batch == 1:
            raise CTVLMError(f"{name}: one case needs more than {limit / 1e9:.0f} GB; its weights must be sharded")
        batch //= 2
    plain, checkpointed = (memory(cost, batch, gpus, flag, sharded) for flag in (False, True))
    flops = batch * (cost.flops + (cost.repeated_flops if plain > limit else 0))
    step_s = flops / (PEAK_FLOPS * MFU)
    reduced = round(2 * (gpus - 1) / gpus * cost.gradient_bytes)
    epochs = cfg.train_cfg.max_epochs
    return Plan(
        name=name,
        gpus=gpus,
        batch=batch,
        strategy="one process" if gpus == 1 else "ZeRO-1" if sharded else "DDP",
        tokens=cost.tokens,
        flops=flops,
        plain_bytes=plain,
        checkpointed_bytes=checkpointed,
        checkpointed=plain > limit,
        reduced_bytes=reduced,
        reduce_s=reduced / LINK,
        step_s=step_s,
        epochs=epochs,
        hours=epochs * math.ceil(VOLUMES / (batch * gpus)) * step_s / 3600,
    )


def memory(cost: StepCost, batch: int, gpus: int, checkpointed: bool, sharded: bool) -> int:
    """Bytes on one GPU, without temporary tensors."""
    model = cost.weight_bytes + cost.gradient_bytes + cost.copy_bytes
    if gpus > 1:
        model += cost.gradient_bytes  # DDP's buckets
    optimizer = cost.optimizer_bytes // (gpus if sharded else 1)
    case = (cost.checkpointed_bytes if checkpointed else cost.kept_bytes) + 2 * cost.input_bytes
    similarities = 3 * 4 * (STEPS * batch * gpus) ** 2  # steps with steps: scores, targets and a gradient
    return model + optimizer + batch * case + batch * gpus * cost.gathered_bytes + similarities


def scale_table(plans: Sequence[Plan]) -> str:
    """Markdown table of plans."""
    lines = [
        "| config | H100 | strategy | batch per GPU | tokens | TFLOP per step | memory, GB | with checkpointing, GB | "
        "use checkpointing | all-reduce | step | epochs | hours |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for p in plans:
        reduce = f"{p.reduced_bytes / 1e9:.2f} GB, {1e3 * p.reduce_s:.1f} ms" if p.gpus > 1 else ""
        cells = (
            f"`{p.name}`", p.gpus, p.strategy, p.batch, f"{p.tokens:,}", f"{p.flops / 1e12:.3g}",
            f"{p.plain_bytes / 1e9:.2f}", f"{p.checkpointed_bytes / 1e9:.2f}", "yes" if p.checkpointed else "no",
            reduce, f"{1e3 * p.step_s:,.1f} ms", p.epochs, f"{p.hours:.2g}" if p.hours >= 0.01 else "< 0.01",
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
