"""The region map of one CT: a file, and a table of the volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ctvlm.apis import CaseInputError, RegionMap, RegionSegmenter
from ctvlm.cli.inference import explain, one_or_several, plain_table
from ctvlm.engine.checkpoint.files import json_text
from ctvlm.engine.cli.console import stdout_console
from ctvlm.utils.terminal_text import printable, shown


def save_region_file(
    segment: RegionSegmenter,
    inputs: Sequence[str],
    mask: str | None,
    mask_source: str | None,
    out: str,
    as_json: bool,
    allow_outside: bool = False,
) -> int:
    """Write the map of one CT to ``out`` and print the volumes of its regions; returns the exit code.

    Raises:
        CaseInputError: more than one CT.
    """
    found = segment.find(one_or_several(inputs), mask, mask_source, allow_outside=allow_outside)
    if len(found.cases) != 1 or found.failures:
        count = len(found.cases) + len(found.failures)
        raise CaseInputError(f"--out {out}: found {count} CTs for one file; expected one CT, or a folder for the maps")
    region_map = cast(RegionMap, next(iter(segment.stream(found.cases, reraise=True)))[1])
    region_map.save(out)
    content = {**region_map.to_dict(), "out": out}
    if as_json:
        print(json_text(content), end="")
        return 0
    if region_map.straightened:
        explain(["the grid of the CT is sheared (tilted gantry); the map has an orthogonal grid that covers it"], [])
    table = plain_table("region", "ml")
    for name, volume in content["volumes_ml"].items():
        table.add_row(shown(name), f"{volume:,.0f}")
    table.columns[1].justify = "right"
    stdout_console().print(table)
    print(f"{content['origin']} regions: {printable(out)}")
    return 0
