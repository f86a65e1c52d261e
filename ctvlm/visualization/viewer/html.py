"""Write the content of a page as one HTML file without external resources."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from functools import cache, lru_cache
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from ctvlm.utils.terminal_text import printable
from ctvlm.visualization.content import content_windows
from ctvlm.visualization.planes import region_colours
from ctvlm.visualization.viewer.case_page import CasePage, PageStep
from ctvlm.visualization.viewer.niivue import niivue_module
from ctvlm.visualization.viewer.volumes import MAX_VOXELS, nifti_text, on_grid_of, page_ct, page_heat
from ctvlm.volume import CTVolume
from ctvlm.volume.windows import WINDOWS

# In the order in which they run: a script uses what the scripts before it define.
SCRIPTS = (
    "data.js",
    "planes.js",
    "outlines.js",
    "canvas_stage.js",
    "niivue_stage.js",
    "overlay.js",
    "panel.js",
    "main.js",
)
# The browser loads only what the page contains, and runs only the scripts with these hashes.
POLICY = (
    "default-src 'none'; script-src {scripts} blob: 'wasm-unsafe-eval'; style-src {styles}; img-src data: blob:; "
    "connect-src data: blob:; worker-src blob: data:; font-src data:; base-uri 'none'; form-action 'none'"
)


def page_html(page: CasePage, max_voxels: int = MAX_VOXELS, home: str = "") -> str:
    """Write a page.

    Args:
        max_voxels: a CT with more voxels is shown at a lower resolution.
        home: address of a list of cases, to which the page links.

    Raises:
        NiiVueError: NiiVue is not installed.
    """
    style, script = asset("style.css"), "\n".join(asset(name) for name in SCRIPTS)
    ct = page_ct(page.ct, max_voxels)
    regions = None if page.regions is None else on_grid_of(page.regions, ct)
    volumes = {"ct": nifti_text(ct)}
    if regions is not None:
        volumes["regions"] = nifti_text(regions)
    for number, step in enumerate(page.steps):
        if step.attention is not None:
            volumes[f"attention-{number}"] = nifti_text(page_heat(step.attention))
    content = _content(page, ct, regions) | {"home": home}
    blocks = [_block("page-content", "application/json", _json(content))]
    blocks += [_block(name, "text/plain", text) for name, text in volumes.items()]
    blocks.append(_block("niivue", "text/plain", _niivue_text()))
    return Template(asset("page.html")).substitute(
        title=html.escape(printable(page.case_id)),
        policy=POLICY.format(scripts=_hash(script), styles=_hash(style)),
        style=style,
        script=script,
        blocks="\n".join(blocks),
    )


@cache
def asset(name: str) -> str:
    """Text of a file in ``assets``."""
    return files("ctvlm.visualization.viewer").joinpath("assets").joinpath(name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _niivue_text() -> str:
    return base64.b64encode(gzip.compress(niivue_module().encode(), 9)).decode("ascii")


def _block(name: str, kind: str, text: str) -> str:
    return f'<script type="{kind}" id="{name}">{text}</script>'


def _json(content: Any) -> str:
    """JSON that cannot end the element around it."""
    text = json.dumps(content, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _content(page: CasePage, ct: CTVolume, regions: CTVolume | None) -> dict[str, Any]:
    present = [] if regions is None else sorted(int(i) for i in np.unique(regions.array) if i)
    colours = region_colours(page.scheme.num_regions)
    shown = content_windows(ct.array, ct.spacing)
    return dict(
        case=page.case_id,
        facts=_facts(page, ct),
        remark=page.remark,
        windows=[dict(name=name.replace("_", " "), centre=WINDOWS[name][0], width=WINDOWS[name][1]) for name in shown],
        slices=page.ct.shape[0],
        regions=[dict(id=i, name=page.scheme[i].display_name, colour=colours[i - 1]) for i in present],
        regionOrigin=page.region_origin,
        steps=[_step(number, step, page, ct) for number, step in enumerate(page.steps)],
        stepOrigin=page.step_origin,
        impression=page.impression,
        findings=[dict(name=name, probability=float(p)) for name, p in page.findings.items()],
        similar=[dict(case=s.case_id, similarity=float(s.similarity), text=s.text) for s in page.similar],
        metadata=[[str(name), str(value)] for name, value in page.metadata.items()],
    )


def _step(number: int, step: PageStep, page: CasePage, ct: CTVolume) -> dict[str, Any]:
    regions = [page.scheme[page.scheme.id_of(name)] for name in step.regions]
    position = step.position_mm
    voxel = None if position is None else np.linalg.inv(ct.affine) @ (*position, 1)
    return dict(
        text=step.text,
        regions=[dict(id=region.id, name=region.display_name) for region in regions],
        confidence=step.confidence,
        attention=f"attention-{number}" if step.attention is not None else None,
        peak=None if step.attention is None else float(step.attention.array.max()),
        voxel=None if voxel is None else [float(v) for v in np.clip(voxel[:3], 0, np.array(ct.shape[::-1]) - 1)],
    )


def _facts(page: CasePage, ct: CTVolume) -> list[str]:
    """Size of the CT, and what was changed for the page."""
    (depth, height, width), (z, y, x) = page.ct.shape, page.ct.spacing
    facts = [f"{width} × {height} × {depth} voxels", f"{x:.2f} × {y:.2f} × {z:.2f} mm"]
    if ct.shape != page.ct.shape:
        shown = " × ".join(str(n) for n in ct.shape[::-1])
        facts.append(f"shown at {shown}")
    if page.ct.shear_degrees:
        facts.append(f"straightened by {page.ct.shear_degrees:.1f}°")
    return facts
