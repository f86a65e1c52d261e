"""Open every file of a manifest, and list problems by kind and the training text of the cases.

    python tools/misc/verify_dataset.py data/ct/manifest.jsonl --workers 4

Errors stop training or make it incorrect; warnings should be checked. The exit code is 1 if there is any problem
(``--errors-only``: any error), otherwise 0.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby
from multiprocessing import get_context

from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctvlm.anatomy import DEFAULT_SCHEME, RegionScheme
from ctvlm.datasets.manifest import ManifestError, read_manifest
from ctvlm.datasets.training_text import text_source, with_steps
from ctvlm.datasets.verify import ERROR, WARNING, Problem, verify_case
from ctvlm.engine import run_tool, write_json
from ctvlm.text import is_latin


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", help="path or fsspec URL")
    parser.add_argument("--split", help="verify only this split")
    parser.add_argument("--scheme", default=DEFAULT_SCHEME, help="region scheme: name or path")
    parser.add_argument("--no-checksums", action="store_true", help="do not compare stored files with their checksums")
    parser.add_argument("--errors-only", action="store_true", help="omit warnings")
    parser.add_argument("--rows", type=int, default=20, help="cases to list per kind of problem (0: all)")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--json", help="write all problems to this file")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(argv)


def show(problems: list[Problem], checked: int, rows: int, console: Console) -> None:
    """Print the table, sorted by level and kind."""
    if not problems:
        console.print(f"{checked} cases without problems", style="green")
        return
    word = "problem" if len(problems) == 1 else "problems"
    title = f"{len(problems)} {word} in {len({p.case_id for p in problems})} of {checked} cases"
    table = Table("kind", "", "case", "file and note", title=title)
    for (level, kind), group in groupby(problems, key=lambda p: (p.level, p.kind)):
        members = list(group)
        for number, problem in enumerate(members[: rows or None]):
            # The message of most errors contains the file.
            note = problem.note if problem.file in problem.note else f"{problem.file}: {problem.note}"
            colour = "red" if level == ERROR else "yellow"
            table.add_row(
                f"{kind} ({len(members)})" if number == 0 else "", f"[{colour}]{level}", problem.case_id, note
            )
        if rows and len(members) > rows:
            table.add_row("", "", f"... and {len(members) - rows} more", "")
        table.add_section()
    console.print(table)


def text_table(cases: list[dict], scheme: str) -> Table:
    """Build the table of text sources with the numbers of cases, steps, and steps with regions."""
    table = Table("source of steps", "cases", "with impression", "steps", "with regions", title="Training text")
    groups: dict[str, list[dict]] = {}
    for case in cases:
        groups.setdefault(text_source(case), []).append(with_steps(case, scheme))
    for source, group in sorted(groups.items()):
        steps = [step for case in group for step in case["cot"]]
        impressions = sum(bool(case["report"].get("impression")) for case in group)
        counts = (len(group), impressions, len(steps), sum(bool(step["regions"]) for step in steps))
        table.add_row(source, *map(str, counts))
    texts = [step["text"] for group in groups.values() for case in group for step in case["cot"]]
    if foreign := sum(not is_latin(text) for text in texts):
        table.caption = f"{foreign} steps are not in Latin script; regions are found in English text only"
    return table


def main(argv: list[str] | None = None) -> int:
    """Verify; returns the exit code."""
    args = parse_args(argv)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    RegionScheme.load(args.scheme)
    try:
        cases = read_manifest(args.manifest, args.split)
    except ManifestError as error:
        show([Problem("manifest", ERROR, "", args.manifest, str(error))], 0, 0, console)
        return 1
    check = partial(verify_case, scheme_name=args.scheme, checksums=not args.no_checksums)
    if args.workers > 1:
        with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
            per_case = list(track(pool.map(check, cases), "opening", total=len(cases), console=console))
    else:
        per_case = [check(case) for case in track(cases, "opening", console=console)]
    problems = [p for group in per_case for p in group if not (args.errors_only and p.level == WARNING)]
    problems.sort(key=lambda p: (p.level, p.kind, p.case_id))
    show(problems, len(cases), args.rows, console)
    console.print(text_table(cases, args.scheme))
    if args.json:
        write_json(args.json, [vars(p) for p in problems])
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(run_tool(main))
