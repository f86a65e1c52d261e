"""ctvlm view."""

from __future__ import annotations

from typing import Annotated

import typer

from ctvlm.cli.arguments import Debug, flag


def view_command(
    ct: Annotated[
        str, typer.Argument(metavar="CT", help="CT file or DICOM folder; with --serve also a folder or manifest")
    ],
    mask: Annotated[
        str | None, typer.Option(metavar="PATH", help="label map, or folder with one mask file per class")
    ] = None,
    mask_source: Annotated[
        str | None, typer.Option(metavar="NAME", help="meaning of the ids of label maps, such as totalsegmentator_v2")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="TEXT ...", help="show these texts instead of generated steps")
    ] = None,
    index: Annotated[str | None, typer.Option(metavar="FOLDER", help="search index, to show similar cases")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="model name, released folder or config")] = None,
    checkpoint: Annotated[str | None, typer.Option(metavar="FILE", help="checkpoint of a config")] = None,
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="default: the accelerator, or cpu")] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", metavar="PAGE", help="default: <case>.html")] = None,
    max_voxels: Annotated[
        int, typer.Option(metavar="N", min=1000, help="show larger CTs at a lower resolution")
    ] = 8_000_000,
    serve: Annotated[bool, flag("--serve", help="show pages at an address of this machine, until Ctrl-C")] = False,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="port of --serve (0: a free one)")] = 0,
    debug: Debug = False,
) -> int:
    """Write one HTML page that shows a CT with regions, reasoning and findings. It works offline in any browser."""
    from ctvlm.cli.view_pages import serve_pages, write_page
    from ctvlm.utils import CTVLMError

    if serve and out:
        raise CTVLMError(f"--out {out}: not allowed with --serve, which writes no file")
    settings = dict(model=model, checkpoint=checkpoint, device=device, texts=text or (), index=index)
    if serve:
        return serve_pages(ct, mask, mask_source, settings, max_voxels, port)
    return write_page(ct, mask, mask_source, settings, max_voxels, out)
