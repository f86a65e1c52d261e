"""Open every file of a manifest, and list problems by kind and the training text of the cases."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, astuple, dataclass
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
from ctvlm.engine import write_json
from ctvlm.engine.checkpoint.files import json_text
from ctvlm.engine.cli.console import stdout_console
from ctvlm.text import is_latin
from ctvlm.utils import check_out_file
from ctvlm.utils.terminal_text import shown


def show(problems: list[Problem], checked: int, rows: int, console: Console) -> None:
    """Print the table, sorted by level and kind; ``rows`` per kind (0: all)."""
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
            name = f"{kind} ({len(members)})" if number == 0 else ""
            table.add_row(name, f"[{colour}]{level}", shown(problem.case_id), shown(note))
        if rows and len(members) > rows:
            table.add_row("", "", f"... and {len(members) - rows} more", "")
        table.add_section()
    console.print(table)


@dataclass(frozen=True)
class TextSource:
    """Where the reasoning steps of cases come from: numbers of cases, impressions, steps, and steps with regions."""

    source: str
    cases: int
    with_impression: int
    steps: int
    steps_with_regions: int
    steps_not_latin: int


def text_sources(cases: list[dict], scheme: str) -> list[TextSource]:
    """Group the cases by the source of their steps."""
    groups: dict[str, list[dict]] = {}
    for case in cases:
        groups.setdefault(text_source(case), []).append(with_steps(case, scheme))
    found = []
    for source, group in sorted(groups.items()):
        steps = [step for case in group for step in case["cot"]]
        impressions = sum(bool(case["report"].get("impression")) for case in group)
        with_regions = sum(bool(step["regions"]) for step in steps)
        foreign = sum(not is_latin(step["text"]) for step in steps)
        found.append(TextSource(source, len(group), impressions, len(steps), with_regions, foreign))
    return found


def text_table(sources: list[TextSource]) -> Table:
    """Build the table of text sources."""
    table = Table("source of steps", "cases", "with impression", "steps", "with regions", title="Training text")
    for row in sources:
        table.add_row(*map(str, astuple(row)[:5]))
    if foreign := sum(row.steps_not_latin for row in sources):
        table.caption = f"{foreign} steps are not in Latin script; regions are found in English text only"
    return table


def check_cases(cases: list[dict], scheme: str, checksums: bool, workers: int) -> list[Problem]:
    """Open the files of all cases, with a progress bar on stderr; problems are sorted by level, kind and case."""
    console = Console(stderr=True)
    check = partial(verify_case, scheme_name=scheme, checksums=checksums)
    if workers > 1:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            per_case = list(track(pool.map(check, cases), "opening", total=len(cases), console=console))
    else:
        per_case = [check(case) for case in track(cases, "opening", console=console)]
    return sorted((p for group in per_case for p in group), key=lambda p: (p.level, p.kind, p.case_id))


def verify_manifest(
    manifest: str,
    split: str | None = None,
    scheme: str | None = None,
    checksums: bool = True,
    errors_only: bool = False,
    rows: int = 20,
    workers: int = 1,
    out: str | None = None,
    as_json: bool = False,
    allow_outside: bool = False,
) -> int:
    """Verify a manifest and print the result.

    Args:
        rows: cases to list per kind of problem (0: all).
        out: JSON file for all problems.
        as_json: print a JSON document instead of tables.
        allow_outside: see ``read_manifest``.

    Returns:
        The exit code: 1 if there is any problem (``errors_only``: any error), otherwise 0.
    """
    if out:
        check_out_file("--out", out)
    scheme = scheme or DEFAULT_SCHEME
    RegionScheme.load(scheme)
    cases: list[dict] = []
    try:
        cases = read_manifest(manifest, split, allow_outside=allow_outside)
        problems = check_cases(cases, scheme, checksums, workers)
    except ManifestError as error:
        problems = [Problem("manifest", ERROR, "", manifest, str(error))]
    if errors_only:
        problems = [problem for problem in problems if problem.level != WARNING]
    sources = text_sources(cases, scheme)
    listed = [asdict(problem) for problem in problems]
    if out:
        write_json(out, listed)
    if as_json:
        document = {"cases": len(cases), "problems": listed, "training_text": [asdict(row) for row in sources]}
        print(json_text(document), end="")
    else:
        console = stdout_console()
        show(problems, len(cases), rows, console)
        if cases:
            console.print(text_table(sources))
    return int(bool(problems))
