"""Steps that the commands on CTs share: arguments of the inferencers, failures and remarks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ctvlm.apis import CaseInputError, RunOptions, RunResult, SaveSummary
from ctvlm.apis.init_model import is_config
from ctvlm.engine.checkpoint.files import json_text
from ctvlm.engine.cli.console import stdout_console
from ctvlm.engine.cli.installed_configs import find_config
from ctvlm.utils import CTVLMError
from ctvlm.utils.parallel import parse_shard
from ctvlm.utils.terminal_text import printable, shown


def one_or_several(inputs: Sequence[str]) -> str | list[str]:
    """The input of an inferencer: a single path is not a list, so that its error is that of the command."""
    return inputs[0] if len(inputs) == 1 else list(inputs)


def known_device(name: str | None) -> str | None:
    """Check the name of a device.

    Raises:
        CTVLMError: this machine has no such device.
    """
    try:
        if name is not None:
            torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise CTVLMError(f"--device {name}: {reason}") from None
    return name


def trained_model(model: str | None, checkpoint: str | None) -> str | None:
    """Check that a model has weights: results of random weights would look like results.

    Raises:
        CTVLMError: the model is a config without a checkpoint.
    """
    found = model is not None and (Path(model).is_file() or find_config(model) is not None)
    if model is not None and checkpoint is None and found and is_config(model):
        raise CTVLMError(f"--model {model} is a config without weights: add --checkpoint FILE")
    return model


def run_options(
    batch_size: int, workers: int = 1, shard: str | None = None, scheduler: str | None = None
) -> RunOptions:
    """Options of ``save_cases``, with a progress bar.

    Raises:
        ValueError: ``shard`` is not I/N.
    """
    return RunOptions(batch_size, workers, scheduler, parse_shard(shard) if shard else None, progress=True)


def report_run(found: RunResult, as_json: bool) -> Console | None:
    """Print the JSON document, or remarks and failures on stderr; returns the console for the results, if any."""
    if as_json:
        print(json_text(found.to_dict()), end="")
        return None
    warn(getattr(result, "remark", "") for result in found.results)
    explain(found.notes, [(failure.case_id, failure.reason) for failure in found.failures])
    return stdout_console()


def report_saved(summary: SaveSummary, as_json: bool) -> int:
    """Print what was written; returns the exit code.

    Raises:
        CaseInputError: the only case failed.
    """
    failed = [outcome for outcome in summary.outcomes if outcome.state == "failed"]
    if len(failed) == len(summary.outcomes) == 1 and not summary.unfinished:
        raise CaseInputError(failed[0].reason)
    if as_json:
        print(json_text(summary.to_dict()), end="")
        return summary.exit_code
    explain(summary.notes, [(outcome.case_id, outcome.reason) for outcome in failed])
    counts = ", ".join(f"{count} {state}" for state in ("done", "kept", "failed") if (count := summary.count(state)))
    print(f"{printable(summary.out)}: {counts or 'no case'}")
    if summary.unfinished:
        print(f"{summary.unfinished} cases of other shards are unfinished")
    return summary.exit_code


def plain_table(*columns: str) -> Table:
    """Table without lines; the first column is coloured."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", style="cyan" if number == 0 else "")
    return table


def title(text: object) -> str:
    """Markup of the name of a case above its results."""
    return f"[bold]{shown(text)}[/bold]"


def warn(remarks: Iterable[str]) -> None:
    """Print each remark once, on stderr."""
    for remark in dict.fromkeys(remark for remark in remarks if remark):
        print(f"warning: {printable(remark)}", file=sys.stderr)


def explain(notes: Iterable[str], failures: Iterable[tuple[str, str]]) -> None:
    """Print notes, and case ids with the reason of the failure, on stderr."""
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    for case_id, reason in failures:
        print(f"failed: {printable(case_id)}: {printable(reason)}", file=sys.stderr)
