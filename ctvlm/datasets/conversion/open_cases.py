"""Opening of cases, in parallel and resumable."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ctvlm.anatomy import RegionScheme, UnknownLabelError
from ctvlm.datasets.conversion.case_list import DropCase
from ctvlm.datasets.conversion.journal import Journal, files_of, fingerprint
from ctvlm.datasets.transforms import LoadCT
from ctvlm.utils.parallel import WorkerKilledError, run_parallel
from ctvlm.volume import CTReadError, MaskMismatchError

# Reads or writes further files of a case; returns its manifest line, or raises DropCase.
Prepare = Callable[[dict], dict]
# With at most this many cases, starting processes takes longer than opening the files.
MAX_SERIAL = 16
CASE_ERRORS = (CTReadError, MaskMismatchError, UnknownLabelError, FileNotFoundError, DropCase, ImportError)


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_case(case: dict, scheme: str, check: str, prepare: Prepare | None) -> dict:
    """Open one case as training does.

    Returns:
        ``reason`` for dropping the case (or ""), ``notes``, and the ``case`` if ``prepare`` changed it (or None).
    """
    notes = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            prepared = prepare(case) if prepare else case
            if check == "full":
                loaded = LoadCT()({**prepared, "scheme": scheme})
                if empty := loaded["empty_masks"]:
                    notes.append(f"{len(empty)} of {len(prepared['region_map']['files'])} class masks are empty")
            else:
                for path in files_of(prepared):
                    if not os.path.exists(path):
                        raise FileNotFoundError(f"{path}: file not found")
        except CASE_ERRORS as error:
            return dict(reason=str(error), notes=[], case=None)
    notes += [str(w.message) for w in caught]
    return dict(reason="", notes=notes, case=prepared if prepared != case else None)


def case_name(case: dict) -> str:
    """Name of a case in errors."""
    return f"case {case['case_id']}"


def open_cases(
    cases: list[dict], args: argparse.Namespace, journal: Journal, prepare: Prepare | None, console: Console
) -> list[dict]:
    """Open all cases and return their results in the same order; results of an earlier run come from the journal."""
    scheme = RegionScheme.load(args.scheme).fingerprint
    keys = [fingerprint(case, scheme, args.check) for case in cases]
    results = {i: result for i, key in enumerate(keys) if (result := journal.get(key)) is not None}
    todo = [i for i in range(len(cases)) if i not in results]
    if results:
        console.print(f"{len(results)} of {len(cases)} cases were opened by an earlier run", markup=False)
    check = partial(open_case, scheme=args.scheme, check=args.check, prepare=prepare)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("opening", total=len(todo))
        workers = args.workers or (available_cores() if len(todo) > MAX_SERIAL else 1)
        for at, outcome in run_parallel(check, [cases[i] for i in todo], workers, name=case_name):
            if isinstance(outcome, WorkerKilledError):
                raise outcome
            i = todo[at]
            results[i] = outcome
            journal.add(keys[i], outcome)
            progress.advance(task)
    return [results[i] for i in range(len(cases))]
