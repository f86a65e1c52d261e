"""ctvlm search."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from ctvlm.cli.arguments import AllowOutside, Debug, Json
from ctvlm.cli.case_arguments import BatchSize, Checkpoint, Device, Mask, MaskSource, Model, OptionalInputs


class Backend(str, Enum):
    """How an index is searched."""

    numpy = "numpy"
    faiss = "faiss"


def search_command(
    inputs: OptionalInputs = None,
    text: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="a text to search for; repeatable")] = None,
    like: Annotated[list[str] | None, typer.Option(metavar="CT", help="a CT to find similar ones; repeatable")] = None,
    index: Annotated[str, typer.Option(metavar="FOLDER", help="folder of the index")] = "ctvlm_index",
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="results per query")] = 10,
    backend: Annotated[Backend, typer.Option(help="faiss is for large indexes")] = Backend.numpy,
    mask: Mask = None,
    mask_source: MaskSource = None,
    allow_outside: AllowOutside = False,
    model: Model = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    batch_size: BatchSize = 4,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Search CTs by text or by a CT.

    Example: ctvlm search data/ct --text "Pleural effusion."

    The given CTs are added to the index, which is then searched. CTs that are in it already are kept. Without a query,
    CTs are only added; without CTs, an existing index is searched. The exit code is 1 if a CT could not be added.
    """
    from ctvlm.cli.search import search
    from ctvlm.engine import quiet_warnings

    quiet_warnings()
    if not (inputs or text or like):
        raise typer.BadParameter("found neither CTs nor a query; expected CTs to add, --text or --like")
    return search(
        inputs or [], text or [], like or [], index, k, backend.value, mask, mask_source, model, checkpoint, device,
        batch_size, as_json, allow_outside,
    )  # fmt: skip
