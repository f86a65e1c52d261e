"""A plain folder of CTs with TotalSegmentator outputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctvlm.anatomy import RegionScheme, UnknownLabelError
from ctvlm.datasets.conversion.found import Found
from ctvlm.datasets.conversion.splits import share_of_patient

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".npz")
SEGMENTATION = re.compile(r"(^|[^a-z])(total)?seg(mentations?)?([^a-z]|$)|label", re.IGNORECASE)
MASK = re.compile(r"[^a-z](mask|seg)$", re.IGNORECASE)


@dataclass(frozen=True)
class FolderRules:
    """How names are read: ``ct`` and ``lesions`` are globs, ``source`` is what the ids of multi-label files are."""

    source: str = "totalsegmentator_v2"
    ct: Sequence[str] = ()
    lesions: Sequence[str] = ()
    allow_no_mask: bool = False
    patient_regex: str | None = None
    split: str = "train"
    val_fraction: float = 0.0


def folder_cases(root: Path, scheme: RegionScheme, rules: FolderRules) -> Found:
    """Cases (not opened yet), and (folder, reason) of what was left out."""
    root, found = Path(root).absolute(), Found()
    folders = sorted({p.parent for p in root.rglob("*") if p.name.lower().endswith(SUFFIXES)})
    for folder in folders:
        if folder.name == "segmentations":
            continue
        cases, reason = _cases_in(folder, root, rules, scheme)
        found.cases += cases
        if reason:
            found.dropped.append((str(folder.relative_to(root)), reason))
    return found


def stem_of(path: Path) -> str:
    """File name without its (double) suffix."""
    return next((path.name[: -len(s)] for s in SUFFIXES if path.name.lower().endswith(s)), path.stem)


def class_of(path: Path, scheme: RegionScheme) -> str | None:
    """Class name that a per-class mask file is named after, or None."""
    name = MASK.sub("", stem_of(path))
    try:
        scheme.ids_of_class(name)
    except UnknownLabelError:
        return None
    return name


def _cases_in(folder: Path, root: Path, rules: FolderRules, scheme: RegionScheme) -> tuple[list[dict], str]:
    files = sorted(p for p in folder.iterdir() if p.name.lower().endswith(SUFFIXES))
    by_stem = {stem_of(p): p for p in files}
    pairs = [
        (by_stem[MASK.sub("", stem_of(p))], p) for p in files if MASK.sub("", stem_of(p)) in set(by_stem) - {stem_of(p)}
    ]
    if len(pairs) > 1:
        name = str(folder.relative_to(root))
        return [
            _case(f"{name}/{stem_of(ct)}".removeprefix("./"), ct, {"path": str(seg)}, [], rules) for ct, seg in pairs
        ], ""
    lesions = [p for p in files if any(p.match(glob) for glob in rules.lesions)]
    rest = [p for p in files if p not in lesions]
    inside = folder / "segmentations"
    masks = [*rest, *sorted(inside.iterdir())] if inside.is_dir() else rest
    classes = {name: str(p) for p in masks if p.name.lower().endswith(SUFFIXES) and (name := class_of(p, scheme))}
    multi = [p for p in rest if str(p) not in classes.values() and SEGMENTATION.search(stem_of(p))]
    others = [p for p in rest if str(p) not in classes.values() and p not in multi and not MASK.search(stem_of(p))]
    chosen = [p for p in others if any(p.match(glob) for glob in rules.ct)]
    chosen = chosen or [p for p in others if stem_of(p).lower() == "ct"] or others
    if len(chosen) != 1:
        names = ", ".join(p.name for p in chosen) or "none"
        return [], f"expected one CT, found {len(chosen)} ({names}); name it with --ct GLOB"
    if len(multi) > 1 or (multi and classes):
        return [], f"several region maps: {', '.join(p.name for p in multi)} and {len(classes)} class files"
    region_map = {"path": str(multi[0])} if multi else {"files": classes} if classes else None
    if region_map is None and not lesions and not rules.allow_no_mask:
        return [], "no mask beside the CT; --allow-no-mask keeps it"
    name = str(folder.relative_to(root)) if folder != root else stem_of(chosen[0])
    return [_case(name, chosen[0], region_map, lesions, rules)], ""


def _case(name: str, ct: Path, region_map: dict | None, lesions: list[Path], rules: FolderRules) -> dict:
    match = re.search(rules.patient_regex, name) if rules.patient_regex else None
    patient = match.group(1 if match.re.groups else 0) if match else name
    if region_map and "path" in region_map:
        region_map["source"] = rules.source
    return dict(
        case_id=name,
        patient_id=patient,
        split="val" if share_of_patient(patient) < rules.val_fraction else rules.split,
        volume=str(ct),
        region_map=region_map,
        lesion_masks=[dict(path=str(p), id=i, name=stem_of(p)) for i, p in enumerate(lesions, start=1)],
        source="folder",
    )
