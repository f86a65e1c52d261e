"""Add CTs to an index, search it, and print the hits."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from ctvlm.apis import CaseInputError, Hits, Retriever, SaveSummary
from ctvlm.cli.inference import explain, known_device, one_or_several, title, trained_model, warn
from ctvlm.engine.checkpoint.files import json_text
from ctvlm.engine.cli.console import stdout_console
from ctvlm.utils import check_out_folder
from ctvlm.utils.terminal_text import printable


def search(
    inputs: Sequence[str],
    texts: Sequence[str],
    like: Sequence[str],
    index: str,
    k: int,
    backend: str,
    mask: str | None,
    mask_source: str | None,
    model: str | None,
    checkpoint: str | None,
    device: str | None,
    batch_size: int,
    as_json: bool,
    allow_outside: bool = False,
) -> int:
    """See ``ctvlm search --help``; returns the exit code."""
    if inputs:
        check_out_folder("--index", index)
    find = Retriever(
        trained_model(model, checkpoint), checkpoint, known_device(device), index=index, k=k, backend=backend
    )
    added = None
    if inputs:
        added = find.add(
            one_or_several(inputs), mask, mask_source, batch_size, progress=True, allow_outside=allow_outside
        )
    if added and added.exit_code and len(added.outcomes) == 1:
        raise CaseInputError(added.outcomes[0].reason)
    hits = [*(find.search(texts) if texts else []), *(find(path) for path in like)]
    if as_json:
        document = {"index": index, "added": added.to_dict() if added else None}
        print(json_text({**document, "queries": [one.to_dict() for one in hits]}), end="")
    else:
        _print(added, hits, index, stdout_console())
    return added.exit_code if added else 0


def _print(added: SaveSummary | None, queries: Sequence[Hits], index: str, console: Console) -> None:
    warn(one.remark for one in queries)
    if added:
        failed = [(outcome.case_id, outcome.reason) for outcome in added.outcomes if outcome.state == "failed"]
        explain(added.notes, failed)
        names = {"done": "added", "kept": "already present", "failed": "failed"}
        counts = ", ".join(f"{count} {name}" for state, name in names.items() if (count := added.count(state)))
        print(f"index {printable(index)}: {counts}")
    for one in queries:
        console.print(title(one.query))
        width = max((len(printable(hit.case_id)) for hit in one.hits), default=0)
        for hit in one.hits:
            name = printable(hit.case_id).ljust(width)
            # Without line breaks, so that the path can be copied.
            line = f"{hit.rank:>3}  {hit.score:6.3f}  {name}  {printable(hit.path)}"
            console.print(escape(line), soft_wrap=True)
