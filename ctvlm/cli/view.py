"""ctvlm view."""

from __future__ import annotations

from typing import Annotated

import typer

from ctvlm.cli.arguments import AllowOutside, Debug, flag
from ctvlm.cli.case_arguments import Checkpoint, Device, Mask, MaskSource, Model


def view_command(
    ct: Annotated[
        str, typer.Argument(metavar="CT", help="CT file or DICOM folder; with --serve also a folder or manifest")
    ],
    mask: Mask = None,
    mask_source: MaskSource = None,
    allow_outside: AllowOutside = False,
    text: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="show this text instead of generated steps; repeatable")
    ] = None,
    index: Annotated[str | None, typer.Option(metavar="FOLDER", help="search index, to show similar cases")] = None,
    model: Model = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    out: Annotated[str | None, typer.Option("--out", "-o", metavar="PAGE", help="default: <case>.html")] = None,
    max_voxels: Annotated[
        int, typer.Option(metavar="N", min=1000, help="show larger CTs at a lower resolution")
    ] = 8_000_000,
    serve: Annotated[bool, flag("--serve", help="show pages at an address of this machine, until Ctrl-C")] = False,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="port of --serve (0: a free one)")] = 0,
    debug: Debug = False,
) -> int:
    """Write one HTML page that shows a CT with regions, reasoning and findings. It works offline in any browser."""
    from ctvlm.cli.inference import known_device, trained_model
    from ctvlm.cli.view_pages import serve_pages, write_page
    from ctvlm.engine import quiet_warnings
    from ctvlm.utils import CTVLMError

    if serve and out:
        raise CTVLMError(f"--out {out}: not allowed with --serve, which writes no file")
    quiet_warnings()
    source = dict(model=trained_model(model, checkpoint), checkpoint=checkpoint, device=known_device(device))
    settings = dict(source, texts=text or (), index=index)
    if serve:
        return serve_pages(ct, mask, mask_source, settings, max_voxels, port, allow_outside)
    return write_page(ct, mask, mask_source, settings, max_voxels, out, allow_outside)
