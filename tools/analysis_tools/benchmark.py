"""Measure encoders and compare them with published ones: python tools/analysis_tools/benchmark.py CONFIG

    python tools/analysis_tools/benchmark.py CONFIG --against timm-blocks monai-vit
    python tools/analysis_tools/benchmark.py CONFIG --compile
    python tools/analysis_tools/benchmark.py CONFIG --tokens 216,432,864 --plot growth.png
    python tools/analysis_tools/benchmark.py CONFIG --batches 16,64,256
    python tools/analysis_tools/benchmark.py CONFIG --baseline HEAD~1
    python tools/analysis_tools/benchmark.py CONFIG --ranks 1 2 4
    python tools/analysis_tools/benchmark.py CONFIG CONFIG --scale

One process measures all encoders in turn, several times, and reports medians and ratios to the first one, because
absolute times depend on what else runs on the machine. ``--batches``, ``--baseline`` and ``--ranks`` measure training
steps of one config instead, each side in its own processes; ``--ranks`` on the CPU, with gloo. ``--scale`` measures
nothing: it computes what a training on CT-RATE needs on one and on eight H100.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ctvlm.engine import run_tool

PEERS = "timm-blocks, monai-vit, swin-unetr, spectre (packages timm, monai, monai, spectre-fm), literal"


def integers(text: str) -> list[int]:
    """Comma-separated positive integers."""
    values = [int(part) for part in text.split(",")]
    if min(values) < 1:
        raise argparse.ArgumentTypeError(f"found {text}; expected positive integers")
    return values


def share(text: str) -> float:
    """A number from 0 to below 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"found {text}; expected a share from 0 to below 1")
    return value


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="+", metavar="CONFIG|ENCODER", help="config, or name of a registered encoder")
    parser.add_argument("--against", nargs="+", default=[], metavar="NAME", help=PEERS)
    parser.add_argument("--compile", action="store_true", help="measure each CONFIG also with torch.compile")
    parser.add_argument("--size", type=int, nargs=3, metavar=("D", "H", "W"), help="default: img_size of the first")
    parser.add_argument("--tokens", type=integers, metavar="N,N,...", help="numbers of patches to measure")
    parser.add_argument("--batches", type=integers, metavar="B,B,...", help="batch sizes of training steps to measure")
    parser.add_argument("--chunk", type=int, default=8, help="cases per chunk with --batches (default: %(default)s)")
    parser.add_argument("--baseline", metavar="COMMIT", help="compare a training step with this commit")
    parser.add_argument("--ranks", type=int, nargs="+", metavar="N", help="numbers of processes to measure, on the CPU")
    parser.add_argument("--scale", action="store_true", help="compute memory and hours of configs on 1 and 8 H100")
    parser.add_argument("--cases", type=int, default=16, help="different cases of a step (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="cases per pass (default: %(default)s)")
    parser.add_argument("--air", type=share, default=0.0, help="share of the patches that is air (default: 0)")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--device", help="default: cuda if available, else cpu")
    parser.add_argument("--amp", action="store_true", help="use bfloat16")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="plot the cost against --tokens")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the results")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args(argv)
    if min(args.batch, args.repeats, args.chunk, args.cases) < 1:
        parser.error("--batch, --repeats, --chunk and --cases must be at least 1")
    if args.plot and not args.tokens:
        parser.error("--plot needs --tokens")
    steps = [kind for kind in ("batches", "baseline", "ranks") if getattr(args, kind)]
    if steps and (len(args.subjects) > 1 or args.against or args.tokens or args.compile or len(steps) > 1):
        parser.error(f"--{steps[0]} measures the training step of one config, and nothing else")
    if args.scale and (args.against or args.tokens or args.compile or steps):
        parser.error("--scale computes the cost of configs, and nothing else")
    if args.ranks and (min(args.ranks) < 1 or len(set(args.ranks)) < len(args.ranks)):
        parser.error(f"--ranks {args.ranks}: expected different numbers of at least 1")
    if args.ranks and args.device not in (None, "cpu"):
        parser.error(f"--ranks measures on the CPU, but --device is {args.device}")
    return args


def encoders(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the encoders, print the tables, and return the results."""
    from dataclasses import replace

    from ctvlm.engine.cli.console import stdout_console
    from ctvlm.experiments.benchmark.growth import exponents, growth_figure, measure_sizes
    from ctvlm.experiments.benchmark.report import cost_table, exponent_table
    from ctvlm.experiments.benchmark.subjects import ModelSize, backbone_of, check_peers

    check_peers(args.against)
    subjects: dict[str, Any] = {name: backbone_of(name) for name in args.subjects}
    size = ModelSize.of(next(iter(subjects.values())))
    if args.size:
        size = replace(size, volume=tuple(args.size))
    sizes = [size.with_tokens(tokens) for tokens in args.tokens] if args.tokens else [size]
    subjects |= dict.fromkeys(args.against)
    costs, remarks = measure_sizes(
        subjects, sizes, args.device, args.batch, args.repeats, args.amp, args.air, args.compile
    )
    console = stdout_console()
    for tokens, row in costs.items():
        air = f", {args.air:.0%} air" if args.air else ""
        title = f"{args.batch} x {tokens:,} patches{air}, {'bf16' if args.amp else 'fp32'}, {args.device}"
        console.print(cost_table(row, title))
        if args.compile:
            for cost in row:
                console.print(f"{cost.name}: first pass {cost.first_s:.1f} s", soft_wrap=True)
    for remark in remarks:
        console.print(f"not measured: {remark}")
    result: dict[str, Any] = dict(
        costs={str(tokens): [cost.to_dict() for cost in row] for tokens, row in costs.items()},
        not_measured=remarks,
    )
    if growth := exponents(costs):
        result["exponents"] = growth
        console.print(exponent_table(growth))
    if args.plot:
        growth_figure(costs).savefig(args.plot, dpi=120)
        console.print(f"plot written to {args.plot}")
    return result


def training_steps(args: argparse.Namespace) -> dict[str, Any]:
    """Measure training steps, print the table, and return the results."""
    from ctvlm.engine.cli.console import stdout_console
    from ctvlm.experiments.benchmark.baseline import compare_with_commit
    from ctvlm.experiments.benchmark.batches import measure_batches
    from ctvlm.experiments.benchmark.ranks import measure_ranks
    from ctvlm.experiments.benchmark.report import rows_table

    config, device = args.subjects[0], str(args.device)
    if args.ranks:
        result = measure_ranks(config, args.ranks, args.cases, args.repeats)
        title = f"training step, {result['batch_per_rank']} cases and {result['threads']} thread(s) per rank, gloo"
        stdout_console().print(rows_table([_shared(row) for row in result["ranks"]], title))
        if any(row["share_cores"] for row in result["ranks"]):
            print(f"ranks share cores: {result['cores']} cores are fewer than ranks x {result['threads']} thread(s)")
        return result
    if args.batches:
        rows: list[dict[str, Any]] = measure_batches(config, args.batches, args.chunk, device, args.cases)
        stdout_console().print(rows_table(rows, f"training step with chunks of {args.chunk} cases, {device}"))
        return dict(chunk=args.chunk, batches=rows)
    result = compare_with_commit(config, args.baseline, device, args.cases, args.repeats)
    rows = [dict(side=name, **result[name]) for name in ("commit", "working_tree")]
    stdout_console().print(rows_table(rows, f"training step, medians of {args.repeats} alternating repeats, {device}"))
    ratio, difference = result["ratio"], result["loss_difference"]
    print(
        f"working tree / {args.baseline}: {ratio:.3f} (median of the ratios); losses differ by at most {difference:.1e}"
    )
    return dict(baseline=args.baseline, **result)


def scale(args: argparse.Namespace) -> dict[str, Any]:
    """Compute what configs need on one and eight H100, print the table, and return the results."""
    from dataclasses import asdict

    from mmengine.logging import MMLogger

    from ctvlm.engine.cli.config import load_config
    from ctvlm.engine.cli.console import quiet_logger
    from ctvlm.experiments.benchmark.scale import step_cost
    from ctvlm.experiments.benchmark.scale_plan import ASSUMPTIONS, plan, scale_table

    quiet_logger(MMLogger.get_current_instance())  # prints a line per parameter
    configs = {Path(name).name: load_config(name) for name in args.subjects}
    costs = {name: step_cost(cfg) for name, cfg in configs.items()}
    plans = [plan(name, cfg, costs[name], gpus) for name, cfg in configs.items() for gpus in (1, 8)]
    print(f"{scale_table(plans)}\n\n{ASSUMPTIONS}")
    return dict(costs={name: asdict(cost) for name, cost in costs.items()}, plans=[asdict(row) for row in plans])


def _shared(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "share_cores": "ranks share cores" if row["share_cores"] else ""}


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write the results."""
    args = parse_args(argv)
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler prints its start and end
    import torch

    from ctvlm.engine import quiet_warnings, write_json
    from ctvlm.utils import check_out_file

    for name in ("out", "plot"):
        if getattr(args, name):
            check_out_file(f"--{name}", getattr(args, name))
    quiet_warnings()
    on_gpu = torch.cuda.is_available() and not args.ranks
    args.device = torch.device(args.device or ("cuda" if on_gpu else "cpu"))
    if args.scale:
        measured = scale(args)
    else:
        measured = training_steps(args) if args.batches or args.baseline or args.ranks else encoders(args)
    result = {"device": str(args.device), "threads": torch.get_num_threads(), "batch": args.batch, **measured}
    if args.out:
        write_json(args.out, result)
        print(f"results written to {args.out}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
