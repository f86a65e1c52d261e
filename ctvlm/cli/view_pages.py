"""Write or serve viewer pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rich.console import Console

from ctvlm.apis.page_builder import PageBuilder
from ctvlm.cli.inference import explain, warn
from ctvlm.utils import CTVLMError, atomic_write, check_out_file
from ctvlm.utils.terminal_text import shown
from ctvlm.visualization.viewer import page_html
from ctvlm.visualization.viewer.niivue import niivue_module
from ctvlm.visualization.viewer.server import PageServer


def write_page(
    ct: str,
    mask: str | None,
    mask_source: str | None,
    settings: dict[str, Any],
    max_voxels: int,
    out: str | None,
    allow_outside: bool = False,
) -> int:
    """Write the page of one CT."""
    if out and Path(out).suffix.lower() not in (".html", ".htm"):
        raise CTVLMError(f"--out {out}: found suffix {Path(out).suffix!r}; expected .html")
    check_out_file("--out", out or "page.html")
    niivue_module()  # a missing package is reported before the model runs
    builder = PageBuilder(**settings)
    found = builder.find(ct, mask, mask_source, allow_outside=allow_outside)
    explain(found.notes, [(failure.case_id, failure.reason) for failure in found.failures])
    cases = found.cases
    if len(cases) > 1:
        raise CTVLMError(f"{ct}: found {len(cases)} CTs; expected one, or --serve for a list of all")
    page = builder.predict([builder.read.read_case(cases[0].entry)])[0]
    name = re.sub(r"[^\w.,+-]+", "_", page.case_id).strip(".") or "ct"
    path = Path(out or f"{name}.html")
    text = page_html(page, max_voxels)
    with atomic_write(path) as part:
        Path(part).write_text(text, encoding="utf-8")
    warn([page.remark])
    size = path.stat().st_size / 1e6
    Console().print(f"{shown(path)}: {size:.1f} MB, {len(page.steps)} steps; open it in a browser", soft_wrap=True)
    return 0


def serve_pages(
    source: str,
    mask: str | None,
    mask_source: str | None,
    settings: dict[str, Any],
    max_voxels: int,
    port: int,
    allow_outside: bool = False,
) -> int:
    """Serve the pages of all CTs of a folder, a manifest or a file until Ctrl-C."""
    niivue_module()
    builder = PageBuilder(**settings)
    found = builder.find(source, mask, mask_source, allow_outside=allow_outside)

    def build(number: int) -> str:
        case = builder.read.read_case(found.cases[number].entry)
        return page_html(builder.predict([case])[0], max_voxels, home="/")

    console = Console()
    explain(found.notes, [(failure.case_id, failure.reason) for failure in found.failures])
    with PageServer([(case.case_id, case.path) for case in found.cases], build, port) as server:
        console.print(f"{len(found.cases)} CTs at {server.address} (Ctrl-C ends)", soft_wrap=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.print()
    return 0
