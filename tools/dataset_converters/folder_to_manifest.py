"""A folder of CTs with TotalSegmentator outputs to a case manifest.

Every sub-folder that holds a CT is a case. Beside the CT (or in ``segmentations/``) lie one multi-label file (a name
with "seg" or "label" in it) or one file per class (``liver.nii.gz``, ``lung_mask.nii.gz``). In a flat folder, pairs
such as ``p1.nii.gz`` and ``p1_seg.nii.gz`` are cases. Every case is opened and checked before it is kept.

    python tools/dataset_converters/folder_to_manifest.py DATA DATA/manifest.jsonl --source totalsegmentator_v2
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctvlm.anatomy import RegionScheme, UnknownLabelError
from ctvlm.datasets import ManifestError, write_manifest
from ctvlm.datasets.transforms import LoadCT
from ctvlm.volume import CTReadError, MaskMismatchError

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".npz")
SEGMENTATION = re.compile(r"(^|[^a-z])(total)?seg(mentations?)?([^a-z]|$)|label", re.IGNORECASE)
MASK = re.compile(r"[^a-z](mask|seg)$", re.IGNORECASE)


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


def find_cases(root: Path, args: argparse.Namespace, scheme: RegionScheme) -> tuple[list[dict], list[tuple[str, str]]]:
    """Cases (not opened yet), and (folder, reason) of what was left out."""
    cases, dropped = [], []
    folders = sorted({p.parent for p in root.rglob("*") if p.name.lower().endswith(SUFFIXES)})
    for folder in folders:
        if folder.name == "segmentations":
            continue
        found, reason = _cases_in(folder, root, args, scheme)
        cases += found
        if reason:
            dropped.append((str(folder.relative_to(root)), reason))
    return cases, dropped


def _cases_in(folder: Path, root: Path, args: argparse.Namespace, scheme: RegionScheme) -> tuple[list[dict], str]:
    files = sorted(p for p in folder.iterdir() if p.name.lower().endswith(SUFFIXES))
    by_stem = {stem_of(p): p for p in files}
    pairs = [
        (by_stem[MASK.sub("", stem_of(p))], p) for p in files if MASK.sub("", stem_of(p)) in set(by_stem) - {stem_of(p)}
    ]
    if len(pairs) > 1:
        name = str(folder.relative_to(root))
        return [
            _case(f"{name}/{stem_of(ct)}".removeprefix("./"), ct, {"path": str(seg)}, [], args) for ct, seg in pairs
        ], ""
    lesions = [p for p in files if any(p.match(glob) for glob in args.lesions)]
    rest = [p for p in files if p not in lesions]
    inside = folder / "segmentations"
    masks = [*rest, *sorted(inside.iterdir())] if inside.is_dir() else rest
    classes = {name: str(p) for p in masks if p.name.lower().endswith(SUFFIXES) and (name := class_of(p, scheme))}
    multi = [p for p in rest if str(p) not in classes.values() and SEGMENTATION.search(stem_of(p))]
    others = [p for p in rest if str(p) not in classes.values() and p not in multi and not MASK.search(stem_of(p))]
    chosen = [p for p in others if any(p.match(glob) for glob in args.ct)]
    chosen = chosen or [p for p in others if stem_of(p).lower() == "ct"] or others
    if len(chosen) != 1:
        names = ", ".join(p.name for p in chosen) or "none"
        return [], f"expected one CT, found {len(chosen)} ({names}); name it with --ct GLOB"
    if len(multi) > 1 or (multi and classes):
        return [], f"several region maps: {', '.join(p.name for p in multi)} and {len(classes)} class files"
    region_map = {"path": str(multi[0])} if multi else {"files": classes} if classes else None
    if region_map is None and not lesions and not args.allow_no_mask:
        return [], "no mask beside the CT; --allow-no-mask keeps it"
    name = str(folder.relative_to(root)) if folder != root else stem_of(chosen[0])
    return [_case(name, chosen[0], region_map, lesions, args)], ""


def _case(name: str, ct: Path, region_map: dict | None, lesions: list[Path], args: argparse.Namespace) -> dict:
    match = re.search(args.patient_regex, name) if args.patient_regex else None
    patient = match.group(1 if match.re.groups else 0) if match else name
    # A hash of the patient's id: the same split on every machine, and whatever else lies in the folder.
    share = zlib.crc32(patient.encode()) / 2**32
    if region_map and "path" in region_map:
        region_map["source"] = args.source
    return dict(
        case_id=name,
        patient_id=patient,
        split="val" if share < args.val_fraction else args.split,
        volume=str(ct),
        region_map=region_map,
        lesion_masks=[dict(path=str(p), id=i, name=stem_of(p)) for i, p in enumerate(lesions, start=1)],
        source="folder",
    )


def problem_of(case: dict, scheme: str) -> tuple[str, list[str]]:
    """Open the case as training will: (reason to drop it or "", warnings)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            LoadCT()({**case, "scheme": scheme})
        except (CTReadError, MaskMismatchError, UnknownLabelError, FileNotFoundError) as error:
            return str(error), []
    return "", [str(w.message) for w in caught]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of CTs with their segmentations")
    parser.add_argument("out", type=Path, help="manifest to write (.jsonl)")
    parser.add_argument("--source", default="totalsegmentator_v2", help="what the ids of multi-label files are")
    parser.add_argument("--scheme", default="thorax_abdomen_20", help="region scheme: name or path")
    parser.add_argument("--ct", nargs="*", default=[], metavar="GLOB", help="names of CT files, where it is not clear")
    parser.add_argument("--lesions", nargs="*", default=[], metavar="GLOB", help="names of lesion masks")
    parser.add_argument("--allow-no-mask", action="store_true", help="keep CTs without any mask")
    parser.add_argument(
        "--patient-regex", help="finds the patient in the case's path (group 1 if any); default: the path"
    )
    parser.add_argument("--split", default="train", help="name of the split")
    parser.add_argument("--val-fraction", type=float, default=0.0, help="share of patients put in split 'val'")
    parser.add_argument("--workers", type=int, default=1, help="processes that open the files")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the manifest; returns the exit code."""
    args = parse_args(argv)
    console = Console()
    scheme = RegionScheme.load(args.scheme)
    if args.source not in scheme.sources:
        console.print(f"[red]--source {args.source!r} is unknown; known: {', '.join(scheme.sources)}")
        return 2
    if not args.folder.is_dir():
        console.print(f"[red]{args.folder} is not a folder")
        return 2
    cases, dropped = find_cases(args.folder.absolute(), args, scheme)
    check = partial(problem_of, scheme=args.scheme)
    if args.workers > 1:
        with ProcessPoolExecutor(args.workers) as pool:
            results = list(track(pool.map(check, cases), "opening", total=len(cases), console=console))
    else:
        results = [check(case) for case in track(cases, "opening", console=console)]
    kept = [case for case, (reason, _) in zip(cases, results) if not reason]
    dropped += [(case["case_id"], reason) for case, (reason, _) in zip(cases, results) if reason]
    table = Table(title=f"{len(kept)} kept, {len(dropped)} dropped of {args.folder}")
    for column in ("case", "", "note"):
        table.add_column(column, overflow="fold")
    for case, (reason, notes) in zip(cases, results):
        if not reason:
            table.add_row(case["case_id"], "[green]kept", "\n".join(notes))
    for name, reason in dropped:
        table.add_row(name, "[red]dropped", reason)
    console.print(table)
    try:
        write_manifest(kept, args.out)
    except ManifestError as error:
        console.print(f"[red]{error}")
        return 1
    console.print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
