"""A plain folder of CTs, with or without TotalSegmentator outputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctvlm.anatomy import RegionScheme, UnknownLabelError
from ctvlm.datasets.conversion.case_list import CaseList
from ctvlm.datasets.conversion.dicom_folders import ct_series, dicom_folders

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".npz")
SEGMENTATION = re.compile(r"(^|[^a-z])(total)?seg(mentations?)?([^a-z]|$)|label", re.IGNORECASE)
MASK = re.compile(r"[^a-z](mask|seg)$", re.IGNORECASE)
IMAGE = re.compile(r"[^a-z0-9](ct|image|img|volume|0000)$", re.IGNORECASE)


@dataclass(frozen=True)
class FolderRules:
    """How names are read: ``ct`` and ``lesions`` are globs, ``source`` is what the ids of multi-label files are."""

    source: str = "totalsegmentator_v2"
    ct: Sequence[str] = ()
    lesions: Sequence[str] = ()
    allow_no_mask: bool = False
    patient_regex: str | None = None
    split: str = "train"


def folder_cases(root: Path, scheme: RegionScheme, rules: FolderRules) -> CaseList:
    """Cases (not opened yet), (folder or file, reason) of what was left out, and a note on masks of unknown classes.

    A DICOM folder is a CT. Its masks lie inside it, or in the nearest folder above it that holds masks and no other CT.
    """
    root, found = Path(root).absolute(), CaseList()
    unknown: Counter[str] = Counter()
    paths = list(root.rglob("*"))
    images = {p.parent for p in paths if p.name.lower().endswith(SUFFIXES)}
    folders = {f.parent if f.name == "segmentations" else f for f in images}
    dicom = dicom_folders(p for p in paths if not p.name.lower().endswith(SUFFIXES))
    inside: dict[Path, list[Path]] = {}
    for folder in sorted(dicom):
        home = next((f for f in (folder, *folder.parents) if f in folders and f.is_relative_to(root)), folder)
        inside.setdefault(home, []).append(folder)
    alone = []
    for folder in sorted(folders | inside.keys()):
        files = _Files(folder, root, rules, scheme, inside.get(folder, []))
        files.find(found)
        unknown.update(path.name for path in files.unknown)
        alone += files.alone
    for folder in alone:
        _Files(folder, root, rules, scheme, [folder]).find(found)
    if unknown:
        names = ", ".join(f"{name} ({count}x)" if count > 1 else name for name, count in unknown.most_common(5))
        more = f" and {len(unknown) - 5} other names" if len(unknown) > 5 else ""
        first = Path(unknown.most_common(1)[0][0])
        found.notes.append(
            f"left out, as their names are no known class: {names}{more}; if they mark lesions, add "
            f"--lesions '*{_last_word(stem_of(first))}*'"
        )
    return found


def stem_of(path: Path) -> str:
    """File name without its (double) suffix; a folder's whole name."""
    return next((path.name[: -len(s)] for s in SUFFIXES if path.name.lower().endswith(s)), path.name)


def class_of(path: Path, scheme: RegionScheme) -> str | None:
    """Class name that a per-class mask file is named after, or None."""
    name = MASK.sub("", stem_of(path))
    try:
        scheme.ids_of_class(name)
    except UnknownLabelError:
        return None
    return name


def _last_word(stem: str) -> str:
    """The part of a mask's name that is the same in all cases: "tumor" of "p1_tumor" and of "tumor_mask"."""
    return re.split(r"[_\-. ]", MASK.sub("", stem))[-1]


def _named_after(ct: Path, masks: Sequence[Path]) -> bool:
    """Whether a mask's name extends that of a CT: p1_seg.nii.gz for p1."""
    base = re.escape(IMAGE.sub("", stem_of(ct)))
    return any(re.match(rf"{base}[^a-zA-Z0-9]", stem_of(mask)) for mask in masks)


class _Files:
    """The image files of one folder by role, with the DICOM folders (itself, or below it) that may be its CT.

    Attributes:
        alone: DICOM folders that belong to no file here.
    """

    def __init__(
        self, folder: Path, root: Path, rules: FolderRules, scheme: RegionScheme, dicom: Sequence[Path]
    ) -> None:
        self.rules = rules
        self.name = "" if folder == root else str(folder.relative_to(root))
        files = sorted(p for p in folder.iterdir() if p.name.lower().endswith(SUFFIXES))
        self.lesions = [p for p in files if any(p.match(glob) for glob in rules.lesions)]
        rest = [p for p in files if p not in self.lesions]
        inside = folder / "segmentations"
        masks = sorted(p for p in inside.iterdir() if p.name.lower().endswith(SUFFIXES)) if inside.is_dir() else []
        self.lesions += [p for p in masks if any(p.match(glob) for glob in rules.lesions)]
        masks = [p for p in masks if p not in self.lesions]
        self.classes = {name: str(p) for p in (*rest, *masks) if (name := class_of(p, scheme))}
        rest = [p for p in rest if str(p) not in self.classes.values()]
        self.multi = [p for p in rest if SEGMENTATION.search(stem_of(p))]
        rest = [p for p in rest if p not in self.multi]
        others = [p for p in rest if not MASK.search(stem_of(p))]
        chosen = [p for p in (*others, *dicom) if any(p.match(glob) for glob in rules.ct)]
        chosen = chosen or [p for p in others if stem_of(p).lower() == "ct"]
        # Beside DICOM files in one folder, an image file of unknown name is more likely a mask than a second CT.
        images = chosen or ([] if folder in dicom else others)
        near = [] if chosen else [p for p in dicom if p == folder or not images or _named_after(p, self.multi)]
        self.alone = [p for p in dicom if p not in (folder, *near, *chosen)]
        self.cts = [*images, *near]
        # A flat folder holds p1, p1_seg, p1_tumor, p2 ...: what extends a CT's name belongs to that CT.
        extended = [p for p in images if (owner := self._owner(p)) and not self._number_behind(owner, p)]
        self.cts = [p for p in self.cts if p not in extended]
        used = {*self.cts, *self.classes.values()}
        self.unknown = [p for p in rest if p not in self.cts]
        self.unknown += [p for p in masks if str(p) not in used]

    def find(self, found: CaseList) -> None:
        """Add this folder's cases, or why there is none."""
        pairs = {ct: [p for p in self.multi if self._owner(p) == ct] for ct in self.cts}
        paired = any(pairs.values())
        if len(self.cts) > 1 and (paired or (self.rules.allow_no_mask and not self.classes and not self.multi)):
            for ct in self.cts:
                name = f"{self.name}/{stem_of(ct)}".removeprefix("/")
                lesions = [p for p in self.lesions if self._owner(p) == ct]
                self._add(found, name, ct, pairs[ct], {}, lesions)
        elif len(self.cts) == 1:
            self._add(found, self.name or stem_of(self.cts[0]), self.cts[0], self.multi, self.classes, self.lesions)
        else:
            names = ", ".join(p.name for p in self.cts[:6]) or "none"
            do = "name it with --ct GLOB, and lesion masks with --lesions GLOB"
            if self.cts and not self.multi and not self.classes:
                do += "; if each is a case without masks, --allow-no-mask or --reports CSV"
            found.dropped.append((self.name or ".", f"expected one CT, found {len(self.cts)} ({names}); {do}"))

    def _add(self, found: CaseList, name: str, ct: Path, multi: list, classes: dict, lesions: list[Path]) -> None:
        if len(multi) > 1 or (multi and classes):
            reason = f"several region maps: {', '.join(p.name for p in multi)} and {len(classes)} class files"
            found.dropped.append((name, reason))
            return
        volumes, reason = {"": str(ct)}, ""
        if ct.is_dir():
            series = ct_series(ct)
            volumes, reason = series.volumes, series.reason
        if len(volumes) > 1 and (multi or classes or lesions):
            reason = f"{len(volumes)} CT series in the DICOM folder {ct.name} beside one set of masks: keep one of them"
        if reason:
            found.dropped.append((name, reason))
            return
        region_map = {"path": str(multi[0])} if multi else {"files": classes} if classes else None
        if region_map is None and not lesions and not self.rules.allow_no_mask:
            left = f" ({self.unknown[0].name} is no known class: --lesions?)" if self.unknown else ""
            reason = f"no mask beside the CT{left}; --allow-no-mask keeps it, --reports CSV gives it a text"
            found.dropped.append((name, reason))
            return
        for uid, volume in volumes.items():
            case_id = f"{name}/{uid}" if len(volumes) > 1 else name
            case = _case(case_id, volume, region_map, lesions, self.rules)
            if case["patient_id"] == case_id:
                case["patient_id"] = name  # series of one folder are of one patient
            found.cases.append(case)

    def _owner(self, path: Path) -> Path | None:
        """The CT whose name, the longest there is, this file's name extends: p1 or p1_ct for p1_seg and p1-tumor."""
        stem = stem_of(path)
        bases = {p: re.escape(IMAGE.sub("", stem_of(p))) for p in self.cts if p != path}
        owners = [p for p, base in bases.items() if re.match(rf"{base}[^a-zA-Z0-9]", stem) and not IMAGE.search(stem)]
        return max(owners, key=lambda p: len(stem_of(p)), default=None)

    @staticmethod
    def _number_behind(owner: Path, path: Path) -> bool:
        """scan_2 beside scan is another CT, not a mask of it."""
        return stem_of(path)[len(stem_of(owner)) + 1 :].isdigit()


def _case(name: str, volume: str | dict, region_map: dict | None, lesions: list[Path], rules: FolderRules) -> dict:
    match = re.search(rules.patient_regex, name) if rules.patient_regex else None
    patient = match.group(1 if match.re.groups else 0) if match else name
    if region_map and "path" in region_map:
        region_map["source"] = rules.source
    return dict(
        case_id=name,
        patient_id=patient,
        split=rules.split,
        volume=volume,
        region_map=region_map,
        lesion_masks=[dict(path=str(p), id=i, name=stem_of(p)) for i, p in enumerate(lesions, start=1)],
        source="folder",
    )
