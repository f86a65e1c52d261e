"""OmniAbnorm-CT-14K as published: 2D pictures with their neighbours, to thin volumes.

The pictures are windowed and 8 bits deep: what they hold is neither HU nor spacing, and no tool can get them back. They
become *thin volumes* (the key slice and its neighbours) only under a window and a spacing that the user declares, both
of which stay beside the case in ``extra.declared``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctvlm.anatomy import DEFAULT_SCHEME, MentionLexicon, mention_lexicon
from ctvlm.datasets.conversion.case_list import CaseList, ConversionError, DropCase
from ctvlm.datasets.conversion.omniabnorm import as_list, patient_of, split_of
from ctvlm.datasets.conversion.tables import first_of, read_json
from ctvlm.datasets.conversion.text import number, text_steps
from ctvlm.utils import natural_key
from ctvlm.volume import write_nifti
from ctvlm.volume.orient import affine_from_axes, to_ras

PICTURES = (".jpeg", ".jpg", ".png")
# Where columns, rows and slices of a picture grow to, as such pictures are shown; slices as a viewer scrolls.
PLANE_AXES = {"axial": "LPI", "coronal": "LIP", "sagittal": "PIL"}
# Lossy pictures of masks: the values around 0 and 255 are ringing.
THRESHOLD = 128


def omniabnorm_14k_cases(
    path: Path,
    out: Path,
    *,
    window: tuple[float, float],
    spacing: tuple[float, float, float],
    root: Path | None = None,
    plane: str | None = None,
    planes: Sequence[str] = ("axial",),
    scheme: str = DEFAULT_SCHEME,
    patient_regex: str | None = None,
    val: float = 0.05,
    test: float = 0.1,
) -> CaseList:
    """Cases of the 14K layout, as thin volumes to be written under ``out`` by ``prepare_omniabnorm_14k``.

    Args:
        window: (centre, width) in HU that 0..255 stands for; declared, the pictures do not say.
        spacing: (between slices, row, column) in mm; declared too.
        plane: of cases that do not name theirs.
        planes: which to keep: a thin sagittal volume is right geometry, but few models can use it.

    Raises:
        ConversionError: not that layout.
    """
    path, out = Path(path).absolute(), Path(out).absolute()
    root = Path(root).absolute() if root else path.parent
    raw, notes = read_json(path)
    if not isinstance(raw, dict) or not all(isinstance(e, dict) and "image" in e for e in raw.values()) or not raw:
        raise ConversionError(f"{path}: expected an object of case id: {{image, mask, context, abnormality, ...}}")
    lexicon, found = mention_lexicon(scheme), CaseList(notes=notes)
    declared = dict(window=list(window), spacing=list(spacing))
    for case_id in sorted(raw, key=natural_key):
        entry, patient = raw[case_id], patient_of(case_id, patient_regex)
        try:
            shown = str(first_of(entry, ("plane", "view", "orientation")) or plane or "").lower()
            if shown not in PLANE_AXES:
                raise DropCase(
                    f"its plane is {shown or 'not given'!r}; expected one of {', '.join(PLANE_AXES)}: --plane"
                )
            if shown not in planes:
                raise DropCase(f"a {shown} picture; --planes {shown} keeps it")
            slices = _slices(root / entry["image"], entry.get("context"))
            lesions, steps = _abnormalities(entry, root, lexicon)
        except DropCase as reason:
            found.dropped.append((case_id, str(reason)))
            continue
        folder = out / re.sub(r"[^\w.\-]", "_", case_id)
        found.cases.append(
            dict(
                case_id=case_id,
                patient_id=patient,
                split=split_of(entry, path, patient, val, test),
                volume=dict(path=str(folder / "ct.nii.gz")),
                lesion_masks=[dict(path=str(folder / f"lesion_{m['id']}.nii.gz"), **m) for m, _ in lesions],
                report=dict(findings=" ".join(s["text"] for s in steps)) if steps else {},
                cot=number(steps),
                labels={"Abnormality": int(bool(entry.get("abnormality")))},
                source="OmniAbnorm-CT-14K",
                extra=dict(
                    plane=shown,
                    declared=declared,
                    offsets=[offset for offset, _ in slices],
                    sources=[str(p) for _, p in slices] + [str(p) for _, p in lesions],
                ),
            )
        )
    return found


def _picture(folder: Path, stem: object) -> Path | None:
    return next((p for end in PICTURES if (p := folder / f"{stem}{end}").is_file()), None)


def _slices(folder: Path, context: object) -> list[tuple[int, Path]]:
    """(offset, picture) from end to end without a gap, around the key slice 0."""
    offsets = [int(o) for o in (context.values() if isinstance(context, dict) else context or range(-4, 5))]
    there = {o: p for o in {*offsets, 0} if (p := _picture(folder, o))}
    if 0 not in there:
        raise DropCase(f"{folder}: no key slice 0{PICTURES[0]}")
    low = high = 0
    while low - 1 in there:
        low -= 1
    while high + 1 in there:
        high += 1
    if low == high:
        raise DropCase("one slice and no neighbour: a picture, not a volume")
    return [(o, there[o]) for o in range(low, high + 1)]


def _abnormalities(entry: dict, root: Path, lexicon: MentionLexicon) -> tuple[list[tuple[dict, Path]], list[dict]]:
    lesions, steps = [], []
    for item in entry.get("abnormality") or []:
        path = _picture(root / entry["mask"], item.get("id")) if entry.get("mask") else None
        category = as_list(item.get("category"))
        lesion = None
        if path is not None:
            lesion = len(lesions) + 1
            lesions.append((dict(id=lesion, name=", ".join(category) or str(item.get("label") or "") or None), path))
        texts = as_list(item.get("rewritten_findings")) or as_list(item.get("description"))
        for step in (s for text in texts for s in text_steps(text, lexicon)):
            steps.append({**step, "entities": category, "lesion": lesion})
    return lesions, steps


def prepare_omniabnorm_14k(case: dict) -> dict:
    """Write the thin volume, in HU under the declared window, and its lesion masks, which mark the key slice only."""
    from PIL import Image

    extra = case["extra"]
    pictures, masks = extra["sources"][: len(extra["offsets"])], extra["sources"][len(extra["offsets"]) :]
    stack = [np.asarray(Image.open(p).convert("L")) for p in pictures]
    if len({a.shape for a in stack}) > 1:
        raise DropCase(f"slices of different sizes: {sorted({a.shape for a in stack})}")
    centre, width = extra["declared"]["window"]
    between, row, column = extra["declared"]["spacing"]
    affine = affine_from_axes(PLANE_AXES[extra["plane"]], (column, row, between))

    def written(values: np.ndarray, path: str, labels: bool) -> None:
        # (slice, row, column) to the axes of the affine: column, row, slice.
        write_nifti(to_ras(values.transpose(2, 1, 0), affine, labels=labels), path)

    grey = np.stack(stack).astype(np.float32)
    written(np.rint((grey / 255 - 0.5) * width + centre).astype(np.int16), case["volume"]["path"], False)
    key, kept = extra["offsets"].index(0), []
    for mask, source in zip(case["lesion_masks"], masks):
        picture = np.asarray(Image.open(source).convert("L"))
        marked = np.zeros(grey.shape, np.uint8)
        if picture.shape != grey.shape[1:]:
            raise DropCase(f"{source}: mask of {picture.shape} for slices of {grey.shape[1:]}")
        marked[key] = picture >= THRESHOLD
        if marked.any():
            written(marked, mask["path"], True)
            kept.append(mask)
    ids = {mask["id"] for mask in kept}
    cot = [step if step["lesion"] in ids else {**step, "lesion": None} for step in case["cot"]]
    return {**case, "lesion_masks": kept, "cot": cot}
