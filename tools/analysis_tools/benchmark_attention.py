"""Measure time and memory of slice-aware attention: python tools/analysis_tools/benchmark_attention.py

Time: forward and backward pass with and without the slice bias, as medians of alternating repeats in one process, so
that other load on the machine affects both equally. Memory: growth of the peak memory with the number of tokens, with
one process for each size.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ctvlm.engine import run_tool

if TYPE_CHECKING:
    from rich.console import Console

    from ctvlm.structures import TokenContext


SLICES = 16  # slices of the patch grid of a 64 x 512 x 512 volume
TARGET_RATIO = 1.35
TARGET_EXPONENT = 1.1


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure time and memory of slice-aware attention.")
    parser.add_argument("--tokens", type=int, default=4096, help="number of tokens for timing, a multiple of 16")
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--head-dims", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9, help="number of repeats; 0 skips the timing")
    parser.add_argument("--dense", action="store_true", help="also time backend='dense' (N x N memory)")
    parser.add_argument(
        "--memory-tokens",
        type=int,
        nargs="*",
        default=[1024, 2048, 4096, 8192, 16384],
        help="token counts for memory",
    )
    parser.add_argument("--device", help="default: cuda if available, else cpu")
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--probe", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    for tokens in [args.tokens, *args.memory_tokens]:
        if tokens < SLICES or tokens % SLICES:
            parser.error(f"number of tokens is {tokens}; expected a multiple of {SLICES}")
    return args


def make_context(tokens: int, device: str) -> TokenContext:
    """Context of a patch grid with 16 slices."""
    import torch

    from ctvlm.structures import TokenContext

    return TokenContext.full(1, (SLICES, 1, tokens // SLICES), torch.ones(1, 3, device=device))


def attention_steps(args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Functions that run one forward and backward pass of each implementation on the same inputs."""
    import torch
    import torch.nn.functional as F

    from ctvlm.models.attention import FullAttention, SliceAwareAttention

    width, device = args.heads * args.head_dims, args.device
    ctx = make_context(args.tokens, device)
    torch.manual_seed(0)
    shape = (3, 1, args.heads, args.tokens, args.head_dims)
    q_BKNc, k_BKNc, v_BKNc = torch.randn(shape, device=device).requires_grad_()
    x_BNE = torch.randn(1, args.tokens, width, device=device)
    aware = SliceAwareAttention(width, args.heads).to(device)
    full = FullAttention(width, args.heads).to(device)
    steps = {
        "sdpa": lambda: F.scaled_dot_product_attention(q_BKNc, k_BKNc, v_BKNc).sum().backward(),
        "slice_aware": lambda: aware.attend(q_BKNc, k_BKNc, v_BKNc, ctx).sum().backward(),
        "full_layer": lambda: full(x_BNE, ctx).sum().backward(),
        "slice_aware_layer": lambda: aware(x_BNE, ctx).sum().backward(),
    }
    if args.dense:
        dense = SliceAwareAttention(width, args.heads, backend="dense").to(device)
        steps["dense"] = lambda: dense.attend(q_BKNc, k_BKNc, v_BKNc, ctx).sum().backward()
    return steps


def time_steps(args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each implementation, measured alternately."""
    import torch

    steps = attention_steps(args)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(args.repeats + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if args.device.startswith("cuda"):
                torch.cuda.synchronize()
            if repeat:  # the first repeat is a warm-up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def reset_peak() -> None:
    """Reset the peak memory of this process to its current memory (Linux)."""
    refs = Path("/proc/self/clear_refs")
    if refs.exists():
        refs.write_text("5")


def probe(args: argparse.Namespace) -> int:
    """Growth of the peak memory by one forward and backward pass with ``args.probe`` tokens, in bytes."""
    import torch

    from ctvlm.models.attention import SliceAwareAttention
    from ctvlm.utils.memory import peak_memory

    width, device = args.heads * args.head_dims, torch.device(args.device)
    layer = SliceAwareAttention(width, args.heads).to(args.device)
    # A small first pass excludes memory that kernels and thread pools allocate once.
    for tokens in (SLICES, args.probe):
        reset_peak()
        before = peak_memory(device)
        x_BNE = torch.randn(1, tokens, width, device=args.device, requires_grad=True)
        layer(x_BNE, make_context(tokens, args.device)).sum().backward()
    return peak_memory(device) - before


def measure_memory(args: argparse.Namespace) -> dict[int, int]:
    """Peak memory of each size, each in a new process."""
    sizes = ["--heads", str(args.heads), "--head-dims", str(args.head_dims), "--device", args.device]
    # Allocate each tensor in its own pages; otherwise it could reuse memory that the imports have freed.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    peaks = {}
    for tokens in args.memory_tokens:
        command = [sys.executable, str(Path(__file__).resolve()), "--probe", str(tokens), *sizes]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        peaks[tokens] = int(done.stdout.strip().splitlines()[-1])
    return peaks


def growth_exponent(peaks: dict[int, int]) -> float:
    """Exponent of the memory growth between the smallest and the largest size: 1 is linear, 2 is quadratic."""
    low, high = min(peaks), max(peaks)
    return math.log(peaks[high] / peaks[low]) / math.log(high / low)


def print_times(console: Console, args: argparse.Namespace, seconds: dict[str, float]) -> None:
    """Print the table of times."""
    from rich.table import Table

    title = f"N = {args.tokens}, {args.heads} heads x {args.head_dims}, fp32, {args.device}, forward + backward"
    table = Table("attention", "ms", "ratio", title=title)
    names = {
        "sdpa": ("plain SDPA, no bias", "sdpa"),
        "slice_aware": ("slice-aware, backend sdpa", "sdpa"),
        "dense": ("slice-aware, backend dense", "sdpa"),
        "full_layer": ("FullAttention with projections", "full_layer"),
        "slice_aware_layer": ("SliceAwareAttention with projections", "full_layer"),
    }
    for name, (text, base) in names.items():
        if name in seconds:
            table.add_row(text, f"{1e3 * seconds[name]:.0f}", f"{seconds[name] / seconds[base]:.2f}")
    console.print(table)
    console.print(f"target: slice-aware / plain <= {TARGET_RATIO}")


def print_memory(console: Console, args: argparse.Namespace, peaks: dict[int, int]) -> None:
    """Print the table of memory."""
    from rich.table import Table

    table = Table("N", "peak, MiB", "KiB per token", "dense scores only, MiB", title="SliceAwareAttention, memory")
    for tokens, peak in peaks.items():
        dense = args.heads * tokens**2 * 4
        table.add_row(f"{tokens:,}", f"{peak / 2**20:.0f}", f"{peak / tokens / 2**10:.1f}", f"{dense / 2**20:,.0f}")
    console.print(table)


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write the results."""
    args = parse_args(argv)
    import torch
    from rich.console import Console

    from ctvlm.engine import write_json

    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if args.probe:
        print(probe(args))
        return
    console = Console(highlight=False)
    result: dict = dict(tokens=args.tokens, heads=args.heads, head_dims=args.head_dims, device=args.device)
    result["threads"] = torch.get_num_threads()
    if args.repeats:
        result["seconds"] = time_steps(args)
        result["ratio"] = result["seconds"]["slice_aware"] / result["seconds"]["sdpa"]
        print_times(console, args, result["seconds"])
    if args.memory_tokens:
        result["peak_bytes"] = measure_memory(args)
        print_memory(console, args, result["peak_bytes"])
        if len(result["peak_bytes"]) > 1:
            result["growth_exponent"] = growth_exponent(result["peak_bytes"])
            console.print(f"memory grows as N^{result['growth_exponent']:.2f} (target <= {TARGET_EXPONENT})")
    if args.json:
        write_json(args.json, result)
        console.print(f"results written to {args.json}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
