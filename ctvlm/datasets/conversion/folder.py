"""Folder of CTs, with or without TotalSegmentator masks."""

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
    """Rules for file names.

    Attributes:
        source: label map of multi-label files.
        ct: globs of CT files.
        lesions: globs of lesion masks.
        allow_no_mask: keep CTs without a mask.
        patient_regex: finds the patient in the case id; default: the case id.
        split: split of all cases.
    """

    source: str = "totalsegmentator_v2"
    ct: Sequence[str] = ()
    lesions: Sequence[str] = ()
    allow_no_mask: bool = False
    patient_regex: str | None = None
    split: str = "train"


def folder_cases(root: Path, scheme: RegionScheme, rules: FolderRules) -> CaseList:
    """List the cases below ``root``. Masks of unknown classes are reported in a note.

    A DICOM folder is one CT. Its masks are inside it, or in the nearest parent folder with masks and no other CT.
    """
    root, listed = Path(root).absolute(), CaseList()
    unknown: Counter[str] = Counter()
    paths = list(root.rglob("*"))
    images = {p.parent for p in paths if p.name.lower().endswith(SUFFIXES)}
    folders = {f.parent if f.name == "segmentations" else f for f in images}
    dicom = dicom_folders(p for p in paths if not p.name.lower().endswith(SUFFIXES))
    inside: dict[Path, list[Path]] = {}
    for folder in sorted(dicom):
        parent = next((f for f in (folder, *folder.parents) if f in folders and f.is_relative_to(root)), folder)
        inside.setdefault(parent, []).append(folder)
    unassigned: list[Path] = []
    for folder in sorted(folders | inside.keys()):
        files = _Files(folder, root, rules, scheme, inside.get(folder, []))
        files.add_cases(listed)
        unknown.update(path.name for path in files.unknown)
        unassigned += files.unassigned
    for folder in unassigned:
        _Files(folder, root, rules, scheme, [folder]).add_cases(listed)
    if unknown:
        names = ", ".join(f"{name} ({count}x)" if count > 1 else name for name, count in unknown.most_common(5))
        more = f" and {len(unknown) - 5} other names" if len(unknown) > 5 else ""
        first = Path(unknown.most_common(1)[0][0])
        listed.notes.append(
            f"masks of unknown classes are ignored: {names}{more}; if they are lesion masks, add "
            f"--lesions '*{_last_word(stem_of(first))}*'"
        )
    return listed


def stem_of(path: Path) -> str:
    """File name without its (double) suffix; for a folder, its whole name."""
    return next((path.name[: -len(s)] for s in SUFFIXES if path.name.lower().endswith(s)), path.name)


def class_of(path: Path, scheme: RegionScheme) -> str | None:
    """Class name of a per-class mask file, or None."""
    name = MASK.sub("", stem_of(path))
    try:
        scheme.ids_of_class(name)
    except UnknownLabelError:
        return None
    return name


def _last_word(stem: str) -> str:
    """Part of a mask name that all cases share: "tumor" for "p1_tumor" and "tumor_mask"."""
    return re.split(r"[_\-. ]", MASK.sub("", stem))[-1]


def _named_after(ct: Path, masks: Sequence[Path]) -> bool:
    """Whether a mask name starts with the name of the CT: p1_seg.nii.gz for p1."""
    base = re.escape(IMAGE.sub("", stem_of(ct)))
    return any(re.match(rf"{base}[^a-zA-Z0-9]", stem_of(mask)) for mask in masks)


class _Files:
    """Image files of one folder by role, with the DICOM folders (itself or below) that may be its CT.

    Attributes:
        unassigned: DICOM folders that belong to no mask of this folder.
    """

    def __init__(
        self, folder: Path, root: Path, rules: FolderRules, scheme: RegionScheme, dicom: Sequence[Path]
    ) -> None:
        self.rules = rules
        self.name = "" if folder == root else str(folder.relative_to(root))
        files = sorted(p for p in folder.iterdir() if p.name.lower().endswith(SUFFIXES))
        self.lesions = [p for p in files if any(p.match(glob) for glob in rules.lesions)]
        lesions = set(self.lesions)
        rest = [p for p in files if p not in lesions]
        inside = folder / "segmentations"
        masks = sorted(p for p in inside.iterdir() if p.name.lower().endswith(SUFFIXES)) if inside.is_dir() else []
        self.lesions += [p for p in masks if any(p.match(glob) for glob in rules.lesions)]
        masks = [p for p in masks if p not in self.lesions]
        self.classes = {name: str(p) for p in (*rest, *masks) if (name := class_of(p, scheme))}
        class_files = set(self.classes.values())
        rest = [p for p in rest if str(p) not in class_files]
        self.multi = [p for p in rest if SEGMENTATION.search(stem_of(p))]
        rest = [p for p in rest if not SEGMENTATION.search(stem_of(p))]
        others = [p for p in rest if not MASK.search(stem_of(p))]
        chosen = [p for p in (*others, *dicom) if any(p.match(glob) for glob in rules.ct)]
        chosen = chosen or [p for p in others if stem_of(p).lower() == "ct"]
        # In a DICOM folder, an image file with an unknown name is more likely a mask than a second CT.
        images = chosen or ([] if folder in dicom else others)
        near = [] if chosen else [p for p in dicom if p == folder or not images or _named_after(p, self.multi)]
        self.unassigned = [p for p in dicom if p not in (folder, *near, *chosen)]
        self.cts = [*images, *near]
        # In a flat folder (p1, p1_seg, p1_tumor, p2, ...), a file whose name starts with a CT name belongs to that CT.
        owners = self._owners(images)
        extended = {p for p, owner in owners.items() if owner and not self._is_numbered(owner, p)}
        self.cts = [p for p in self.cts if p not in extended]
        cts = set(self.cts)
        self.unknown = [p for p in rest if p not in cts]
        self.unknown += [p for p in masks if str(p) not in class_files]

    def add_cases(self, listed: CaseList) -> None:
        """Add the cases of this folder, or the reason why there is none."""
        owners = self._owners([*self.multi, *self.lesions])
        pairs: dict[Path, list] = {ct: [] for ct in self.cts}
        lesions_of: dict[Path, list] = {ct: [] for ct in self.cts}
        for paths, by_ct in ((self.multi, pairs), (self.lesions, lesions_of)):
            for path in paths:
                if owner := owners[path]:
                    by_ct[owner].append(path)
        paired = any(pairs.values())
        if len(self.cts) > 1 and (paired or (self.rules.allow_no_mask and not self.classes and not self.multi)):
            for ct in self.cts:
                name = f"{self.name}/{stem_of(ct)}".removeprefix("/")
                self._add(listed, name, ct, pairs[ct], {}, lesions_of[ct])
        elif len(self.cts) == 1:
            self._add(listed, self.name or stem_of(self.cts[0]), self.cts[0], self.multi, self.classes, self.lesions)
        else:
            names = ", ".join(p.name for p in self.cts[:6]) or "none"
            action = "set --ct GLOB, and --lesions GLOB for lesion masks"
            if self.cts and not self.multi and not self.classes:
                action += "; if each is a case without masks, set --allow-no-mask or --reports CSV"
            listed.dropped.append((self.name or ".", f"found {len(self.cts)} CTs ({names}); expected one; {action}"))

    def _add(self, listed: CaseList, name: str, ct: Path, multi: list, classes: dict, lesions: list[Path]) -> None:
        if len(multi) > 1 or (multi and classes):
            reason = (
                f"found region maps {', '.join(p.name for p in multi)} and {len(classes)} class files; expected one map"
            )
            listed.dropped.append((name, reason))
            return
        volumes: dict[str, str | dict] = {"": str(ct)}
        reason = ""
        if ct.is_dir():
            series = ct_series(ct)
            volumes, reason = series.volumes, series.reason
        if len(volumes) > 1 and (multi or classes or lesions):
            reason = f"DICOM folder {ct.name}: found {len(volumes)} CT series for one set of masks; keep one series"
        if reason:
            listed.dropped.append((name, reason))
            return
        region_map = {"path": str(multi[0])} if multi else {"files": classes} if classes else None
        if region_map is None and not lesions and not self.rules.allow_no_mask:
            unknown = f" ({self.unknown[0].name} is no known class; see --lesions)" if self.unknown else ""
            reason = f"the CT has no mask{unknown}; keep it with --allow-no-mask, or add text with --reports CSV"
            listed.dropped.append((name, reason))
            return
        for uid, volume in volumes.items():
            case_id = f"{name}/{uid}" if len(volumes) > 1 else name
            case = _case(case_id, volume, region_map, lesions, self.rules)
            if case["patient_id"] == case_id:
                case["patient_id"] = name  # all series of a folder belong to one patient
            listed.cases.append(case)

    def _owners(self, paths: Sequence[Path]) -> dict[Path, Path | None]:
        """CT with the longest name that a file name starts with: p1 or p1_ct for p1_seg and p1-tumor."""
        by_base: dict[str, list[tuple[int, int, Path]]] = {}
        for order, ct in enumerate(self.cts):
            stem = stem_of(ct)
            by_base.setdefault(IMAGE.sub("", stem), []).append((len(stem), -order, ct))
        owners: dict[Path, Path | None] = {}
        for path in paths:
            stem = stem_of(path)
            starts = [stem[: match.start()] for match in re.finditer("[^a-zA-Z0-9]", stem)]
            found = [entry for start in starts for entry in by_base.get(start, []) if entry[2] != path]
            owners[path] = max(found)[2] if found and not IMAGE.search(stem) else None
        return owners

    @staticmethod
    def _is_numbered(owner: Path, path: Path) -> bool:
        """Whether only a number is appended: scan_2 is another CT, not a mask of scan."""
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
