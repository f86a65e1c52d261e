"""Main function of every converter: list the cases, open them, report, write the manifest."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from rich.console import Console

from ctvlm.datasets.conversion.case_list import CaseList, ConversionError
from ctvlm.datasets.conversion.journal import Journal
from ctvlm.datasets.conversion.open_cases import Prepare, open_cases
from ctvlm.datasets.conversion.splits import drop_leaks
from ctvlm.datasets.conversion.summary import MAX_ROWS, summary
from ctvlm.datasets.manifest import ManifestError, write_manifest
from ctvlm.datasets.manifest_paths import outside_folder
from ctvlm.utils import atomic_write, check_out_file
from ctvlm.utils.errors import MissingPackageError
from ctvlm.utils.parallel import WorkerKilledError
from ctvlm.utils.stop_signals import exit_code_of
from ctvlm.utils.terminal_text import printable


def run_converter(
    find: Callable[[], CaseList],
    args: argparse.Namespace,
    prepare: Prepare | None = None,
    console: Console | None = None,
    assign: Callable[[list[dict]], tuple[list[dict], str]] | None = None,
) -> int:
    """Convert a data set. An interrupted run resumes when the same command is run again.

    Args:
        find: lists the cases.
        args: ``out``, ``scheme``, ``workers``, ``check``.
        prepare: called on every case in a worker process; a module-level function, or a partial of one.
        assign: sets the splits of the kept cases; returns the cases and a remark, or "".

    Returns:
        Exit code: 0, 1 (nothing to write, or a data set that cannot be converted), 128 + number of the signal that
        stopped it (130 after Ctrl-C).
    """
    console = console or Console()
    check_out_file("out", args.out)
    try:
        listed = drop_leaks(find())
    except (ConversionError, FileNotFoundError, MissingPackageError, ValueError) as error:
        console.print(printable(error), style="red", markup=False)
        return 1
    journal = Journal(args.out)
    try:
        results = open_cases(listed.cases, args, journal, prepare, console)
    except KeyboardInterrupt as error:
        console.print(f"Stopped. Run the same command again to resume from {journal.path}", style="red", markup=False)
        return exit_code_of(error)
    except WorkerKilledError as error:
        console.print(f"{error} Finished cases are kept in {journal.path}.", style="red", markup=False)
        return 1
    opened = list(zip(listed.cases, results))
    kept = [result["case"] or case for case, result in opened if not result["reason"]]
    case_notes = [(case["case_id"], result["notes"]) for case, result in opened if not result["reason"]]
    dropped = listed.dropped + [(case["case_id"], result["reason"]) for case, result in opened if result["reason"]]
    kept, remark = assign(kept) if assign else (kept, "")
    notes = [*listed.notes, remark] if remark else list(listed.notes)
    splits = {case["split"] for case in kept}
    if "train" in splits and "val" not in splits and not remark:
        notes.append("no case is in split 'val', which training needs for validation; see --help for split options")
    for note in notes:
        console.print(printable(note), style="yellow", markup=False)
    console.print(summary(kept, dropped, case_notes))
    _write_dropped(dropped, args, console)
    try:
        write_manifest([_without_sources(case) for case in kept], args.out)
    except ManifestError as error:
        console.print(printable(error), style="red", markup=False)
        return 1
    journal.close()
    console.print(printable(f"wrote {args.out}"), markup=False)
    if outside := outside_folder(kept, args.out):
        console.print(
            f"Its files are in {printable(outside)}, outside its folder. To read it, set CTVLM_DATA_ROOTS to that "
            "folder, or use allow_outside=True (--allow-outside of a tool).",
            markup=False,
        )
    return 0


def _write_dropped(dropped: list[tuple[str, str]], args: argparse.Namespace, console: Console) -> None:
    """Write the dropped cases and reasons next to the manifest, or remove the list of an earlier run."""
    path = args.out.with_name(f"{args.out.name}.dropped.tsv")
    if not dropped:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as part:
        part.write_text("".join(f"{name}\t{' '.join(reason.split())}\n" for name, reason in dropped), encoding="utf-8")
    if len(dropped) > MAX_ROWS:
        console.print(f"all dropped cases with reasons: {path}", markup=False)


def _without_sources(case: dict) -> dict:
    """Remove ``extra.sources``, which only the journal needs."""
    if "sources" not in (case.get("extra") or {}):
        return case
    return {**case, "extra": {key: value for key, value in case["extra"].items() if key != "sources"}}
