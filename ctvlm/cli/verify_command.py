"""ctvlm verify; tools/misc/verify_dataset.py calls the same code."""

from __future__ import annotations

from typing import Annotated

import typer

from ctvlm.cli.arguments import AllowOutside, Debug, Json, flag


def verify_command(
    manifest: Annotated[str, typer.Argument(metavar="MANIFEST", help="path or fsspec URL")],
    split: Annotated[str | None, typer.Option(metavar="NAME", help="verify only this split")] = None,
    scheme: Annotated[str | None, typer.Option(metavar="SCHEME", help="region scheme: name or path")] = None,
    no_checksums: Annotated[
        bool, flag("--no-checksums", help="do not compare stored files with their checksums")
    ] = False,
    errors_only: Annotated[bool, flag("--errors-only", help="omit warnings")] = False,
    rows: Annotated[int, typer.Option(metavar="N", help="cases to list per kind of problem (0: all)")] = 20,
    workers: Annotated[int, typer.Option(metavar="N", help="processes")] = 1,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="write all problems to this JSON file")] = None,
    allow_outside: AllowOutside = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Open every file of a manifest, and list problems by kind and the training text of the cases.

    Errors stop training or make it incorrect; warnings should be checked. The exit code is 1 if there is any problem
    (--errors-only: any error), otherwise 0.
    """
    from ctvlm.cli.verify_manifest import verify_manifest

    return verify_manifest(
        manifest, split, scheme, not no_checksums, errors_only, rows, workers, out, as_json, allow_outside
    )
