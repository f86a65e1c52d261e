"""The common end of every converter: open each case as training will, say what was kept, write the manifest."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ctvlm.anatomy import DEFAULT_SCHEME, RegionScheme, UnknownLabelError
from ctvlm.datasets.conversion.found import ConversionError, Dropped, Found
from ctvlm.datasets.conversion.journal import Journal, files_of, fingerprint
from ctvlm.datasets.conversion.splits import drop_leaks
from ctvlm.datasets.manifest import ManifestError, write_manifest
from ctvlm.datasets.transforms import LoadCT
from ctvlm.volume import CTReadError, MaskMismatchError

# Reads or writes what a case needs beyond its manifest line; may return another line, or raise to drop the case.
Prepare = Callable[[dict], dict]
# Up to here every case has its line in the table; above, reasons are counted.
EACH_CASE = 40
# Up to here starting processes takes longer than opening the files.
FEW = 16
PROBLEMS = (CTReadError, MaskMismatchError, UnknownLabelError, FileNotFoundError, Dropped, ImportError)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that every converter has."""
    parser.add_argument("out", type=Path, help="manifest to write (.jsonl)")
    parser.add_argument("--scheme", default=DEFAULT_SCHEME, help="region scheme: name or path")
    parser.add_argument("--workers", type=int, help="processes that open the files; default: one a core, if many files")
    parser.add_argument(
        "--check",
        choices=("full", "files"),
        default="full",
        help="full: open every case as training will; files: only see that the files are there",
    )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_converter(
    find: Callable[[], Found],
    args: argparse.Namespace,
    prepare: Prepare | None = None,
    console: Console | None = None,
    assign: Callable[[list[dict]], tuple[list[dict], str]] | None = None,
) -> int:
    """Find, open, report, write. A run that was killed goes on where it was when started again.

    Args:
        find: lists the cases; what it drops is dropped unopened.
        args: ``out``, ``scheme``, ``workers``, ``check``.
        prepare: called on every case in a worker; a module's function, or a partial of one.
        assign: gives the cases that were kept their splits; returns them and a remark, or "".

    Returns:
        Exit code: 0, 1 (nothing to write, or a data set that cannot be converted), 130 (stopped by the user).
    """
    console = console or Console()
    try:
        found = drop_leaks(find())
    except (ConversionError, FileNotFoundError, ValueError) as error:
        console.print(str(error), style="red", markup=False)
        return 1
    journal = Journal(args.out)
    try:
        results = open_cases(found.cases, args, journal, prepare, console)
    except KeyboardInterrupt:
        console.print(f"stopped; the same command goes on from {journal.path}", style="red", markup=False)
        return 130
    except BrokenProcessPool:
        message = "a worker was killed, most often for memory: run the same command again, with fewer --workers"
        console.print(f"{message}; it goes on from {journal.path}", style="red", markup=False)
        return 1
    finally:
        journal.close(done=False)
    kept = [r["case"] or case for case, r in zip(found.cases, results) if not r["reason"]]
    dropped = [*found.dropped, *((c["case_id"], r["reason"]) for c, r in zip(found.cases, results) if r["reason"])]
    noted = [(c["case_id"], r["notes"]) for c, r in zip(found.cases, results) if not r["reason"]]
    notes = list(found.notes)
    if assign:
        kept, remark = assign(kept)
        notes += [remark] if remark else []
    splits = {case["split"] for case in kept}
    if "train" in splits and "val" not in splits and not (assign and remark):
        notes.append("no case is in split 'val', which training validates on; --help lists what sets the splits")
    for note in notes:
        console.print(note, style="yellow", markup=False)
    console.print(summary(kept, dropped, noted))
    listing = args.out.with_name(f"{args.out.name}.dropped.tsv")
    if dropped:
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text("".join(f"{n}\t{' '.join(r.split())}\n" for n, r in dropped), encoding="utf-8")
        if len(dropped) > EACH_CASE:
            console.print(f"every dropped case with its reason: {listing}", markup=False)
    else:
        listing.unlink(missing_ok=True)
    try:
        write_manifest([without_sources(case) for case in kept], args.out)
    except ManifestError as error:
        console.print(str(error), style="red", markup=False)
        return 1
    journal.close(done=True)
    console.print(f"wrote {args.out}", markup=False)
    return 0


def without_sources(case: dict) -> dict:
    """``extra.sources`` told the journal which files a case is made from; it is not for the manifest."""
    if "sources" not in (case.get("extra") or {}):
        return case
    return {**case, "extra": {k: v for k, v in case["extra"].items() if k != "sources"}}


def open_case(case: dict, scheme: str, check: str, prepare: Prepare | None) -> dict:
    """Open one case as training will: ``reason`` to drop it (or ""), ``notes``, and the ``case`` if it changed."""
    notes = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            changed = prepare(case) if prepare else case
            if check == "full":
                loaded = LoadCT()({**changed, "scheme": scheme})
                if empty := loaded["empty_masks"]:
                    notes.append(f"{len(empty)} of {len(changed['region_map']['files'])} class masks mark no voxel")
            else:
                for path in files_of(changed):
                    if not os.path.exists(path):
                        raise FileNotFoundError(f"{path}: no such file")
        except PROBLEMS as error:
            return dict(reason=str(error), notes=[], case=None)
    notes += [str(w.message) for w in caught]
    return dict(reason="", notes=notes, case=changed if changed != case else None)


def open_cases(
    cases: list[dict], args: argparse.Namespace, journal: Journal, prepare: Prepare | None, console: Console
) -> list[dict]:
    """The result of every case, in their order; those of an earlier run come from the journal."""
    scheme = RegionScheme.load(args.scheme).fingerprint
    keys = [fingerprint(case, scheme, args.check) for case in cases]
    results = [journal.get(key) for key in keys]
    todo = [i for i, result in enumerate(results) if result is None]
    if len(todo) < len(cases):
        console.print(f"{len(cases) - len(todo)} of {len(cases)} cases were opened by an earlier run", markup=False)
    check = partial(open_case, scheme=args.scheme, check=args.check, prepare=prepare)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("opening", total=len(todo))
        for i, result in _each(check, cases, todo, args.workers):
            results[i] = result
            journal.add(keys[i], result)
            progress.advance(task)
    return results


def _each(check: Callable, cases: list[dict], todo: list[int], workers: int | None) -> Iterator[tuple[int, dict]]:
    """(index, result) as they are done; at most a few cases a worker wait, so that memory stays small."""
    workers = min(workers or (cores() if len(todo) > FEW else 1), len(todo))
    if workers <= 1:
        yield from ((i, check(cases[i])) for i in todo)
        return
    # Spawned, not forked: the parent holds threads by now (a progress bar, torch).
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        waiting: dict[Future, int] = {}
        for i in [*todo, None]:
            if i is not None:
                waiting[pool.submit(check, cases[i])] = i
            while waiting and (i is None or len(waiting) >= 4 * workers):
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def kind_of(reason: str) -> str:
    """A reason without file names and numbers, under which cases are counted."""
    return re.sub(r"\d+(?:\.\d+)?", "#", re.sub(r"\S*[/\\]\S*", "FILE", reason))


def summary(kept: list[dict], dropped: list[tuple[str, str]], noted: list[tuple[str, list[str]]]) -> Table:
    """Each case where there are few, else counts by split and by reason."""
    splits = Counter(case["split"] for case in kept)
    patients = len({case["patient_id"] for case in kept})
    by_split = ", ".join(f"{split} {count}" for split, count in sorted(splits.items()))
    title = f"{len(kept)} kept, {len(dropped)} dropped"
    table = Table(title=f"{title}: {by_split}; {patients} patients" if kept else title)
    each = len(kept) + len(dropped) <= EACH_CASE
    for column in ("case", "", "note") if each else ("cases", "", "reason, with the first case"):
        table.add_column(column, overflow="fold")
    if each:
        rows = [(name, "[green]kept", "\n".join(notes)) for name, notes in noted]
        rows += [(name, "[red]dropped", reason) for name, reason in dropped]
    else:
        rows = [(str(count), "[green]kept", split) for split, count in sorted(splits.items())]
        flat = [(name, note) for name, notes in noted for note in notes]
        rows += _counted(flat, "[yellow]kept, but") + _counted(dropped, "[red]dropped")
    for name, state, note in rows:
        table.add_row(_plain(name), state, _plain(note))
    return table


def _counted(pairs: list[tuple[str, str]], state: str) -> list[tuple[str, str, str]]:
    counts = Counter(kind_of(reason) for _, reason in pairs)
    first = {kind_of(reason): f"{name}: {reason}" for name, reason in reversed(pairs)}
    return [(str(count), state, first[kind]) for kind, count in counts.most_common()]


def _plain(text: str) -> str:
    """A file name may hold "[red]": brackets are no markup here."""
    return text.replace("[", r"\[")
