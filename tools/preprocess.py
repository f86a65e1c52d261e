"""Resample the cases of a manifest into a store, from which training reads windows.

    python tools/preprocess.py data/ct/manifest.jsonl data/store --spacing 3 1.5 1.5 --workers 8
    python tools/preprocess.py s3://bucket/ct/manifest.jsonl s3://bucket/store --shape 64 512 512 --scheduler tcp://a:8786
    sbatch --array 0-99 --wrap 'python tools/preprocess.py M OUT --spacing 3 1 1 --shard $SLURM_ARRAY_TASK_ID/100'

Volumes are cropped to the body and stored in HU as int16; masks are converted to region ids as uint8. Load
OUT/manifest.jsonl with ``LoadStore``. An interrupted run resumes when the same command is run again. Cases with a
changed recipe, manifest line or source file (by size and time of change, or by content with --compare-content) and
cases whose stored files are damaged are processed again. Cases that cannot be read are reported and omitted, and the
exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from ctvlm.anatomy import DEFAULT_SCHEME
from ctvlm.engine import run_tool

if TYPE_CHECKING:
    from rich.console import Console

    from ctvlm.datasets.preprocess import Outcome, Recipe

# Requests to a remote store that are open at a time.
CHECKS_AT_ONCE = 32


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    from ctvlm.utils.parallel import parse_shard

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", help="manifest of the cases: path or fsspec URL")
    parser.add_argument("out", help="folder or fsspec URL of the store")
    parser.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), help="voxels of every case")
    parser.add_argument("--spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="voxel size in mm")
    parser.add_argument("--no-crop", action="store_true", help="keep the air around the body")
    parser.add_argument("--scheme", default=DEFAULT_SCHEME, help="region scheme: name or path")
    parser.add_argument("--measure-text", action="store_true", help="write measured reasoning for cases without text")
    parser.add_argument("--split", help="process only this split")
    parser.add_argument(
        "--allow-outside", action="store_true", help="trust the manifest: accept files outside its folder"
    )
    parser.add_argument(
        "--level", type=int, default=5, choices=range(1, 10), help="compression level, 1 (fast) to 9 (small)"
    )
    parser.add_argument(
        "--compare-content",
        action="store_true",
        help="compare source files by SHA-256, for files that were copied and have another time of change",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="run on the Dask cluster at this address, such as tcp://head:8786"
    )
    parser.add_argument(
        "--shard", metavar="I/N", help="process every N-th case, starting with I (0 to N-1), for job arrays"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    args = parser.parse_args(argv)
    if args.shape is None and args.spacing is None:
        parser.error("set --shape D H W, --spacing Z Y X, or both (resample to the spacing, then crop to the shape)")
    try:
        args.shard = parse_shard(args.shard) if args.shard else None
    except ValueError as error:
        parser.error(f"--{error}")
    return args


def run(
    cases: list[dict], out: str, recipe: Recipe, workers: int, scheduler: str | None, content: bool
) -> Iterator[Outcome]:
    """Yield outcomes in order of completion; arguments and errors as ``run_parallel`` and ``preprocess_case``."""
    from ctvlm.datasets.preprocess import Outcome, preprocess_case
    from ctvlm.utils.parallel import WorkerKilledError, run_parallel

    work = partial(preprocess_case, out=out, recipe=recipe, compare_content=content)
    for index, outcome in run_parallel(work, cases, workers, scheduler, lambda case: f"case {case['case_id']}"):
        if isinstance(outcome, WorkerKilledError):
            yield Outcome(cases[index]["case_id"], "failed", str(outcome))
        else:
            yield outcome


def finished_case(case: dict, out: str, recipe: Recipe) -> tuple[bool, dict | None]:
    """Whether a case is finished, and its manifest line; None for a case that failed."""
    from ctvlm.datasets.preprocess import damaged_files, is_current, manifest_line, read_record

    record = read_record(out, case["case_id"])
    # The shards compared the content of the arrays.
    if record and is_current(record, case, recipe) and not damaged_files(out, record, content=False):
        return True, manifest_line(out, record)
    return is_current(read_record(out, case["case_id"], "failed.json"), case, recipe), None


def finish(cases: list[dict], out: str, recipe: Recipe) -> tuple[int, list[str]]:
    """Write the manifest if all cases are finished; returns (number of cases, ids of unfinished cases)."""
    from ctvlm.datasets.manifest import write_manifest
    from ctvlm.volume import files

    # Threads, because the requests to a remote store wait for its answers.
    with ThreadPoolExecutor(CHECKS_AT_ONCE) as pool:
        checked = list(pool.map(partial(finished_case, out=out, recipe=recipe), cases))
    unfinished = [case["case_id"] for case, (is_finished, _) in zip(cases, checked, strict=True) if not is_finished]
    lines = [line for _, line in checked if line is not None]
    if unfinished or not lines:
        return 0, unfinished
    files.remove_parts(out, seconds=3600)
    return write_manifest(lines, files.join(out, "manifest.jsonl")), []


def report(outcomes: list[Outcome], console: Console) -> None:
    """Print the counts, and a table of the cases with notes."""
    from rich.table import Table

    from ctvlm.utils.terminal_text import shown

    counts = Counter(o.state for o in outcomes)
    size = sum(o.stored_bytes for o in outcomes) / 2**20
    title = ", ".join(f"{counts[s]} {s}" for s in ("done", "kept", "failed")) + f"; {size:,.1f} MiB"
    table = Table("case", "", "note", title=title)
    for outcome in sorted(outcomes, key=lambda o: (o.state != "failed", o.case_id)):
        if outcome.note:
            table.add_row(shown(outcome.case_id), outcome.state, shown(outcome.note))
    console.print(table if table.row_count else title)


def main(argv: list[str] | None = None) -> int:
    """Preprocess; returns the exit code."""
    args = parse_args(argv)
    from rich.console import Console
    from rich.progress import track

    from ctvlm.anatomy import RegionScheme
    from ctvlm.datasets.manifest import read_manifest
    from ctvlm.datasets.preprocess import Recipe
    from ctvlm.utils import check_out_folder
    from ctvlm.utils.parallel import shard_of
    from ctvlm.utils.terminal_text import shown
    from ctvlm.volume import files

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
    if not files.is_url(out):
        check_out_folder("out", files.local(out))
    all_cases = read_manifest(args.manifest, args.split, allow_outside=args.allow_outside)
    cases = shard_of(all_cases, args.shard)
    results = run(cases, out, recipe, args.workers, args.scheduler, args.compare_content)
    outcomes = list(track(results, "preprocessing", total=len(cases), console=console))
    report(outcomes, console)
    written, unfinished = finish(all_cases, out, recipe)
    if written:
        console.print(f"{written} cases in {shown(files.join(out, 'manifest.jsonl'))}", soft_wrap=True)
    elif unfinished:
        console.print(
            f"{len(unfinished)} cases are unfinished, such as {shown(unfinished[0])}; the last shard writes the "
            "manifest"
        )
    else:
        console.print("no case could be read; no manifest was written", style="red")
    return int(any(o.state == "failed" for o in outcomes))


if __name__ == "__main__":
    sys.exit(run_tool(main))
