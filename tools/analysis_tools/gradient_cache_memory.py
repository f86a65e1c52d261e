"""Measure the memory of gradient caching: python tools/analysis_tools/gradient_cache_memory.py [CONFIG]

Gradient caching computes the features of ``chunk_size`` cases at a time, so memory should hardly depend on the batch
size. Each batch size is measured in a new process. On the CPU, the result includes the loaded cases; on a GPU it does
not.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from ctvlm.engine import run_tool

MIB = 2**20
TARGET = 1.3
DEFAULT = Path(__file__).resolve().parents[2] / "configs" / "vit3d_cot_contrastive.py"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the peak memory of a training step for several batch sizes.")
    parser.add_argument("config", nargs="?", default=str(DEFAULT), help="default: %(default)s")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64, 256], help="default: %(default)s")
    parser.add_argument("--chunk", type=int, default=8, help="cases per chunk; 0: no chunks (default: %(default)s)")
    parser.add_argument("--cases", type=int, default=32, help="number of different cases; larger batches repeat them")
    parser.add_argument("--device", help="default: cuda if available, else cpu")
    parser.add_argument("--amp", action="store_true", help="use bfloat16")
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--point", type=int, help=argparse.SUPPRESS)  # one batch size, in this process
    return parser.parse_args(argv)


def tensor_bytes(value: object) -> int:
    """Total size of the tensors in a collated batch, in bytes."""
    import torch

    from ctvlm.structures import CTDataSample

    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, CTDataSample):
        return sum(tensor_bytes(item) for _, item in value.all_items())
    if isinstance(value, dict):
        return sum(map(tensor_bytes, value.values()))
    return sum(map(tensor_bytes, value)) if isinstance(value, (list, tuple)) else 0


def measure(args: argparse.Namespace, batch: int) -> dict[str, float]:
    """Run one training step with ``batch`` cases; returns peak memory in bytes and seconds."""
    import torch
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import init_default_scope

    from ctvlm.engine import load_config
    from ctvlm.registry import DATASETS, MODELS
    from ctvlm.utils.memory import peak_memory

    cfg = load_config(args.config)
    init_default_scope("ctvlm")
    device = torch.device(args.device)
    torch.manual_seed(0)
    if "num_cases" in cfg.train_dataloader.dataset:
        cfg.train_dataloader.dataset.num_cases = args.cases
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    model = MODELS.build({**cfg.model, "chunk_size": args.chunk or None})
    model.fit_tokenizer(dataset.texts())
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    start = peak_memory(device)
    collated = pseudo_collate([copy.deepcopy(dataset[i % min(args.cases, len(dataset))]) for i in range(batch)])
    started = time.perf_counter()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=args.amp):
        losses = model(**model.data_preprocessor(collated, training=True), mode="loss")
    sum(losses.values()).backward()
    optimizer.step()
    seconds = time.perf_counter() - started
    return dict(
        batch=batch,
        peak_bytes=peak_memory(device),
        start_bytes=start,
        cases_bytes=tensor_bytes(collated) if device.type == "cpu" else 0,
        seconds=seconds,
    )


def main(argv: list[str] | None = None) -> None:
    """Measure each batch size in a new process, print and write the results."""
    args = parse_args(argv)
    import torch
    from rich.console import Console
    from rich.table import Table

    from ctvlm.engine import write_json

    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if args.point is not None:
        print(json.dumps(measure(args, args.point)))
        return
    console = Console(highlight=False)
    command = [sys.executable, __file__, args.config, "--chunk", str(args.chunk), "--device", args.device]
    command += ["--cases", str(args.cases), *(["--amp"] if args.amp else [])]
    points = []
    for batch in sorted(args.batches):
        console.print(f"batch {batch} in chunks of {args.chunk or batch} ...")
        # Otherwise glibc keeps freed blocks of a few MiB, which would count as used memory.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "262144"}
        done = subprocess.run([*command, "--point", str(batch)], capture_output=True, text=True, env=environment)
        if done.returncode:
            raise ValueError(f"the measurement with batch size {batch} failed:\n{done.stderr.strip()}")
        points.append(json.loads(done.stdout.strip().splitlines()[-1]))
    table = Table(
        "batch", "peak", "before loading", "loaded cases", f"ratio to batch {points[0]['batch']}", "seconds per step"
    )
    for point in points:
        ratio = point["peak_bytes"] / points[0]["peak_bytes"]
        table.add_row(
            str(point["batch"]),
            f"{point['peak_bytes'] / MIB:,.0f} MiB",
            f"{point['start_bytes'] / MIB:,.0f} MiB",
            f"{point['cases_bytes'] / MIB:,.0f} MiB",
            f"{ratio:.2f}",
            f"{point['seconds']:.1f}",
        )
    table.title = (
        f"training step with chunk size {args.chunk or '= batch size'}, {args.device} (target ratio: at most {TARGET})"
    )
    console.print(table)
    if args.json:
        write_json(args.json, dict(chunk=args.chunk, device=args.device, points=points))
        console.print(f"results written to {args.json}")


if __name__ == "__main__":
    sys.exit(run_tool(main))
