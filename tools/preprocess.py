"""Resample the cases of a manifest once, into a store that training reads in windows.

    python tools/preprocess.py data/ct/manifest.jsonl data/store --spacing 3 1.5 1.5 --workers 8
    python tools/preprocess.py s3://bucket/ct/manifest.jsonl s3://bucket/store --shape 64 512 512 --scheduler tcp://a:8786
    sbatch --array 0-99 --wrap 'python tools/preprocess.py M OUT --spacing 3 1 1 --shard $SLURM_ARRAY_TASK_ID/100'

Volumes are cropped to the body, kept as HU in int16, their masks folded to regions in uint8. OUT/manifest.jsonl
points into the store; read it with ``LoadStore``. A killed run continues where it was when started again; a changed
recipe or case is done again. Cases that cannot be read are left out and named; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctvlm.anatomy import DEFAULT_SCHEME, RegionScheme
from ctvlm.datasets.manifest import read_manifest, write_manifest
from ctvlm.datasets.preprocess import Outcome, Recipe, fingerprint, manifest_line, preprocess_case, read_record
from ctvlm.engine import run_tool
from ctvlm.utils import CTVLMError
from ctvlm.volume import files


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", help="manifest of the cases: path or fsspec URL")
    parser.add_argument("out", help="folder or fsspec URL of the store")
    parser.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), help="voxels of every case")
    parser.add_argument("--spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="voxel size in mm")
    parser.add_argument("--no-crop", action="store_true", help="keep the air around the body")
    parser.add_argument("--scheme", default=DEFAULT_SCHEME, help="region scheme: name or path")
    parser.add_argument("--measure-text", action="store_true", help="write measured reasoning for cases without text")
    parser.add_argument("--split", help="this split only (the manifest then holds no other)")
    parser.add_argument("--level", type=int, default=5, choices=range(1, 10), help="compression, 1 fast to 9 small")
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="run on the Dask cluster there, such as tcp://head:8786")
    parser.add_argument("--shard", metavar="I/N", help="every N-th case from the I-th (0 to N-1), for job arrays")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args(argv)
    if args.shape is None and args.spacing is None:
        parser.error("give --shape D H W, --spacing Z Y X, or both (first the spacing, then a cut to the shape)")
    if args.shard:
        match = re.fullmatch(r"(\d+)/(\d+)", args.shard)
        if not match or int(match[1]) >= int(match[2]):
            parser.error(f"--shard is {args.shard!r}; expected I/N with I from 0 to N-1 (sbatch --array 0-{{N-1}})")
        args.shard = int(match[1]), int(match[2])
    return args


def run_here(cases: list[dict], out: str, recipe: Recipe, workers: int) -> Iterator[Outcome]:
    """Outcomes as they come, from this process or several.

    Raises:
        CTVLMError: a process was killed.
    """
    if workers <= 1:
        yield from (preprocess_case(case, out, recipe) for case in cases)
        return
    # One thread each: the processes are the parallelism. Spawned: torch's threads do not survive a fork.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,))
    with pool:
        futures = [pool.submit(preprocess_case, case, out, recipe) for case in cases]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise CTVLMError(
                "a worker process was killed, most often for want of memory; finished cases are kept: run the same "
                "command again, with fewer --workers"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def run_on_dask(cases: list[dict], out: str, recipe: Recipe, address: str) -> Iterator[Outcome]:
    """Outcomes as they come from a cluster; the tasks of a worker that dies go to others.

    Raises:
        CTVLMError: Dask is missing, or no scheduler answers.
    """
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise CTVLMError("--scheduler needs Dask: pip install 'ctvlm[dask]'") from None
    try:
        client = Client(address, timeout=30)
    except (OSError, ValueError) as error:
        raise CTVLMError(f"no Dask scheduler answers at {address} ({error})") from None
    with client:
        work = partial(preprocess_case, out=out, recipe=recipe)
        names = {}
        for case in cases:
            # Not pure: what counts is the file, and a second run must look again.
            names[client.submit(work, case, pure=False, retries=1)] = case["case_id"]
        for future in as_completed(list(names)):
            error = future.exception()
            if isinstance(error, KilledWorker):
                yield Outcome(names[future], "failed", "its workers died, most often for want of memory; run again")
            else:
                yield future.result()
            future.release()


def finish(cases: list[dict], out: str, recipe: Recipe) -> tuple[int, list[str]]:
    """Write the store's manifest if no case is open any more; returns (cases in it, ids still open)."""
    lines, still_open = [], []
    for case in cases:
        mark = fingerprint(case, recipe)
        record = read_record(out, case["case_id"])
        if record and record["fingerprint"] == mark:
            lines.append(manifest_line(out, record))
            continue
        failed = read_record(out, case["case_id"], "failed.json")
        if not failed or failed["fingerprint"] != mark:
            still_open.append(case["case_id"])
    if still_open or not lines:
        return 0, still_open
    return write_manifest(lines, files.join(out, "manifest.jsonl")), []


def report(outcomes: list[Outcome], console: Console) -> None:
    """A table of what became of the cases, with a line for each that has something to say."""
    counts = Counter(o.state for o in outcomes)
    size = sum(o.stored_bytes for o in outcomes) / 2**20
    title = ", ".join(f"{counts[s]} {s}" for s in ("done", "kept", "failed")) + f"; {size:,.1f} MiB"
    table = Table("case", "", "note", title=title)
    for outcome in sorted(outcomes, key=lambda o: (o.state != "failed", o.case_id)):
        if outcome.note:
            table.add_row(outcome.case_id, outcome.state, outcome.note)
    console.print(table if table.row_count else title)


def main(argv: list[str] | None = None) -> int:
    """Preprocess; returns the exit code."""
    args = parse_args(argv)
    console = Console()
    recipe = Recipe(
        shape=args.shape and tuple(args.shape),
        spacing=args.spacing and tuple(args.spacing),
        crop_to_body=not args.no_crop,
        scheme=args.scheme,
        measure_text=args.measure_text,
        level=args.level,
    )
    RegionScheme.load(args.scheme)
    out = files.join(args.out)
    everything = read_manifest(args.manifest, args.split)
    cases = everything[args.shard[0] :: args.shard[1]] if args.shard else everything
    if args.scheduler:
        run = run_on_dask(cases, out, recipe, args.scheduler)
    else:
        run = run_here(cases, out, recipe, args.workers)
    outcomes = list(track(run, "preprocessing", total=len(cases), console=console))
    report(outcomes, console)
    written, still_open = finish(everything, out, recipe)
    if written:
        console.print(f"{written} cases in {files.join(out, 'manifest.jsonl')}", soft_wrap=True)
    elif still_open:
        console.print(
            f"{len(still_open)} cases are still open, such as {still_open[0]}; who ends last writes the manifest"
        )
    else:
        console.print("no case could be read: no manifest was written", style="red")
    return int(any(o.state == "failed" for o in outcomes))


if __name__ == "__main__":
    sys.exit(run_tool(main))
