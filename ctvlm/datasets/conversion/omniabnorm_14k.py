"""Conversion of OmniAbnorm-CT-14K: 2D images with their neighbours to thin volumes.

The images are windowed and 8 bits deep, so HU and spacing are lost. They become *thin volumes* (the key slice and its
neighbours) under a window and a spacing that the user declares; both are stored in ``extra.declared``.
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
from ctvlm.datasets.conversion.text import number_steps, text_steps
from ctvlm.utils import natural_key
from ctvlm.volume import write_nifti
from ctvlm.volume.orient import affine_from_axes, to_ras

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")
# Directions of increasing column, row and slice index, as usual for displayed images.
PLANE_AXES = {"axial": "LPI", "coronal": "LIP", "sagittal": "PIL"}
# Masks are stored as JPEG, so their values are only close to 0 and 255.
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
    """List the cases of the 14K layout. ``prepare_omniabnorm_14k`` writes their thin volumes under ``out``.

    Args:
        window: (centre, width) in HU of the values 0..255.
        spacing: (between slices, row, column) in mm.
        root: base of the paths; default: the folder of the file.
        plane: plane of cases without one.
        planes: planes to keep; few models can use thin sagittal or coronal volumes.
        patient_regex: see ``omniabnorm.patient_of``.
        val: fraction of the patients for validation, if no split is given.
        test: fraction of the patients for testing, if no split is given.

    Raises:
        ConversionError: not this layout.
    """
    path, out = Path(path).absolute(), Path(out).absolute()
    root = Path(root).absolute() if root else path.parent
    raw, notes = read_json(path)
    if not isinstance(raw, dict) or not all(isinstance(e, dict) and "image" in e for e in raw.values()) or not raw:
        raise ConversionError(f"{path}: expected an object of case id: {{image, mask, context, abnormality, ...}}")
    lexicon, listed = mention_lexicon(scheme), CaseList(notes=notes)
    declared = dict(window=list(window), spacing=list(spacing))
    for case_id in sorted(raw, key=natural_key):
        entry, patient = raw[case_id], patient_of(case_id, patient_regex)
        try:
            case_plane = str(first_of(entry, ("plane", "view", "orientation")) or plane or "").lower()
            if case_plane not in PLANE_AXES:
                raise DropCase(
                    f"plane: found {case_plane or None!r}; expected one of {', '.join(PLANE_AXES)}; set --plane"
                )
            if case_plane not in planes:
                raise DropCase(f"{case_plane} image; keep it with --planes {case_plane}")
            slices = _slices(root / entry["image"], entry.get("context"))
            lesions, steps = _abnormalities(entry, root, lexicon)
        except DropCase as reason:
            listed.dropped.append((case_id, str(reason)))
            continue
        folder = out / re.sub(r"[^\w.\-]", "_", case_id)
        listed.cases.append(
            dict(
                case_id=case_id,
                patient_id=patient,
                split=split_of(entry, path, patient, val, test),
                volume=dict(path=str(folder / "ct.nii.gz")),
                lesion_masks=[dict(path=str(folder / f"lesion_{m['id']}.nii.gz"), **m) for m, _ in lesions],
                report=dict(findings=" ".join(s["text"] for s in steps)) if steps else {},
                cot=number_steps(steps),
                labels={"Abnormality": int(bool(entry.get("abnormality")))},
                source="OmniAbnorm-CT-14K",
                extra=dict(
                    plane=case_plane,
                    declared=declared,
                    offsets=[offset for offset, _ in slices],
                    sources=[str(p) for _, p in slices] + [str(p) for _, p in lesions],
                ),
            )
        )
    return listed


def _find_image(folder: Path, stem: object) -> Path | None:
    return next((p for end in IMAGE_SUFFIXES if (p := folder / f"{stem}{end}").is_file()), None)


def _slices(folder: Path, context: object) -> list[tuple[int, Path]]:
    """Return (offset, image) of the contiguous slices around the key slice 0."""
    neighbours = context.values() if isinstance(context, dict) else context if isinstance(context, list) else ()
    offsets = [int(o) for o in neighbours or range(-4, 5)]
    images = {o: p for o in {*offsets, 0} if (p := _find_image(folder, o))}
    if 0 not in images:
        raise DropCase(f"{folder}: found no key slice 0{IMAGE_SUFFIXES[0]}")
    low = high = 0
    while low - 1 in images:
        low -= 1
    while high + 1 in images:
        high += 1
    if low == high:
        raise DropCase("found one slice without neighbours; expected a volume")
    return [(o, images[o]) for o in range(low, high + 1)]


def _abnormalities(entry: dict, root: Path, lexicon: MentionLexicon) -> tuple[list[tuple[dict, Path]], list[dict]]:
    lesions: list[tuple[dict, Path]] = []
    steps: list[dict] = []
    for item in entry.get("abnormality") or []:
        path = _find_image(root / entry["mask"], item.get("id")) if entry.get("mask") else None
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
    """Write the thin volume, in HU under the declared window, and its lesion masks, which cover the key slice only."""
    from PIL import Image

    extra = case["extra"]
    images, masks = extra["sources"][: len(extra["offsets"])], extra["sources"][len(extra["offsets"]) :]
    stack = [np.asarray(Image.open(p).convert("L")) for p in images]
    if len({a.shape for a in stack}) > 1:
        raise DropCase(f"found slices of different sizes: {sorted({a.shape for a in stack})}")
    centre, width = extra["declared"]["window"]
    between, row, column = extra["declared"]["spacing"]
    affine = affine_from_axes(PLANE_AXES[extra["plane"]], (column, row, between))

    def write_array(values: np.ndarray, path: str, labels: bool) -> None:
        # From (slice, row, column) to (column, row, slice), as in the affine.
        write_nifti(to_ras(values.transpose(2, 1, 0), affine, labels=labels), path)

    grey = np.stack(stack).astype(np.float32)
    write_array(np.rint((grey / 255 - 0.5) * width + centre).astype(np.int16), case["volume"]["path"], False)
    key, kept = extra["offsets"].index(0), []
    for mask, source in zip(case["lesion_masks"], masks):
        image = np.asarray(Image.open(source).convert("L"))
        marked = np.zeros(grey.shape, np.uint8)
        if image.shape != grey.shape[1:]:
            raise DropCase(f"{source}: found a mask of shape {image.shape}; expected {grey.shape[1:]}")
        marked[key] = image >= THRESHOLD
        if marked.any():
            write_array(marked, mask["path"], True)
            kept.append(mask)
    ids = {mask["id"] for mask in kept}
    cot = [step if step["lesion"] in ids else {**step, "lesion": None} for step in case["cot"]]
    return {**case, "lesion_masks": kept, "cot": cot}
