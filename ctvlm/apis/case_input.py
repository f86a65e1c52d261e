"""From files, folders, manifests and arrays to a list of cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctvlm.anatomy import DEFAULT_SCHEME, RegionScheme
from ctvlm.datasets.conversion.folder import SUFFIXES, FolderRules, class_of, folder_cases, stem_of
from ctvlm.datasets.manifest import read_manifest
from ctvlm.utils import CTVLMError
from ctvlm.volume import CTVolume
from ctvlm.volume.detached import may_name_files
from ctvlm.volume.files import is_url, local

Volume = str | Path | CTVolume
Mask = str | Path | dict | CTVolume
# What the inferencers accept: one of these, or a sequence of them.
Inputs = str | Path | CTVolume | np.ndarray | Sequence[Any]


class CaseInputError(CTVLMError, ValueError):
    """Input that is no CT, or a mask that does not belong to it."""


@dataclass(frozen=True)
class InputCase:
    """One case before its files are opened.

    Attributes:
        entry: a case of a manifest as ``read_manifest`` returns it; ``volume`` and ``region_map["volume"]`` may also
            be a CTVolume.
    """

    entry: dict[str, Any]

    @property
    def case_id(self) -> str:
        return self.entry["case_id"]

    @property
    def path(self) -> str:
        """File or folder of the CT; "" for a volume in memory."""
        volume = self.entry["volume"]
        return "" if isinstance(volume, CTVolume) else str(volume["path"] if isinstance(volume, dict) else volume)


@dataclass(frozen=True)
class CaseFailure:
    """A case that could not be processed, with the reason."""

    case_id: str
    path: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Plain containers for JSON."""
        return dict(case_id=self.case_id, path=self.path, reason=self.reason)


@dataclass
class CaseInputs:
    """Cases of an input.

    Attributes:
        cases: with unique ids.
        failures: parts of folders in which no single CT could be identified.
        notes: remarks on whole folders.
    """

    cases: list[InputCase] = field(default_factory=list)
    failures: list[CaseFailure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_cases(
    inputs: Inputs,
    mask: Mask | Sequence[Mask | None] | None = None,
    mask_source: str | None = None,
    *,
    split: str | None = None,
    spacing: Sequence[float] | None = None,
    affine: np.ndarray | None = None,
    scheme: RegionScheme | None = None,
    allow_outside: bool = False,
) -> CaseInputs:
    """List the cases of an input. Files are opened later, one case at a time.

    Args:
        inputs: a CT file, a DICOM folder, a folder that is searched for CTs (see below), a manifest (.jsonl), an array
            (D, H, W) in HU, a CTVolume, or a sequence of these.
        mask: region map of the CT (see ``region_map_entry``); for a sequence of CTs, a sequence with one mask or None
            per CT. Not allowed with a manifest or a folder with several CTs, which contain their own masks.
        mask_source: meaning of the ids of the masks, one of ``RegionScheme.sources``. For a folder, masks next to the
            CTs are used only if it is given; file names tell masks and CTs apart (see ``folder_cases``).
        split: use only this split of manifests.
        spacing: voxel size of arrays in mm (z, y, x). Array axes must increase towards the head, the front and the
            patient's right.
        affine: 4x4 of arrays, voxel index (x, y, z) to RAS+ mm, instead of ``spacing``; for any orientation.
        scheme: default: the scheme of the package.
        allow_outside: accept manifests whose files are outside their folder (see ``read_manifest``), and image headers
            whose data is (see ``read_ct``).

    Raises:
        FileNotFoundError: the only input does not exist.
        ManifestError: as ``read_manifest``.
        ValueError: ``mask_source`` is unknown.
        CaseInputError: no case was found, or arguments contradict each other.
    """
    scheme = scheme or RegionScheme.load(DEFAULT_SCHEME)
    if mask_source is not None:
        scheme.fold(np.zeros(1, np.uint8), mask_source)  # raises for an unknown source
    several = _is_list(inputs)
    parts: Sequence[Any] = inputs if several else [inputs]  # type: ignore[assignment]
    if not parts:
        raise CaseInputError("input: found an empty list; expected at least one CT")
    found = CaseInputs()
    for part, part_mask in zip(parts, _masks_of(mask, len(parts), several), strict=True):
        if isinstance(part, (np.ndarray, CTVolume)):
            volume = part if isinstance(part, CTVolume) else array_volume(part, spacing, affine)
            found.cases.append(one_case(volume, part_mask, mask_source, scheme))
        elif isinstance(part, (str, Path)):
            _add_path(
                found, part if is_url(part) else local(part), part_mask, mask_source, split, scheme, allow_outside
            )
        else:
            raise CaseInputError(
                f"input: found {type(part).__name__}; expected a path, an array, a CTVolume or a list of these"
            )
    if allow_outside:
        found.cases = [InputCase(_with_linked_data(case.entry)) for case in found.cases]
    if not several and len(found.cases) == 1 and found.cases[0].path:
        _check_exists(found.cases[0].path)
    if not found.cases:
        raise CaseInputError("; ".join(failure.reason for failure in found.failures[:3]))
    found.cases = _unique(found.cases)
    return found


def one_case(
    volume: Volume, mask: Mask | None, source: str | None, scheme: RegionScheme, name: str | None = None
) -> InputCase:
    """Case of one CT file or volume, with the id ``name``; default: the name of the file without its suffix.

    Raises:
        CaseInputError: neither a path nor a CTVolume, or as ``region_map_entry``.
    """
    entry: CTVolume | dict[str, str]
    if isinstance(volume, CTVolume):
        name, entry = name or "volume", volume
    elif isinstance(volume, (str, Path)):
        path = volume if is_url(volume) else local(volume)
        name, entry = name or stem_of(Path(path)), {"path": str(path)}
    else:
        raise CaseInputError(f"volume: found {type(volume).__name__}; expected a path or CTVolume(array, affine)")
    region_map = None if mask is None else region_map_entry(mask, source, scheme)
    return InputCase(dict(case_id=name, patient_id=name, volume=entry, region_map=region_map))


def array_volume(
    array: np.ndarray, spacing: Sequence[float] | None = None, affine: np.ndarray | None = None
) -> CTVolume:
    """Volume of an array (D, H, W) in HU; ``spacing`` and ``affine`` as in ``find_cases``.

    Raises:
        CaseInputError: not three axes, or neither or both of ``spacing`` and ``affine``.
    """
    if array.ndim != 3 or array.dtype.kind not in "iuf":
        raise CaseInputError(
            f"array: found shape {array.shape} of {array.dtype}; expected numbers of shape (D, H, W), in HU"
        )
    if (spacing is None) == (affine is None):
        found = "neither" if spacing is None else "both"
        raise CaseInputError(
            f"array: found {found} of spacing and affine; expected spacing=(z, y, x) in mm, or a 4x4 affine"
        )
    if affine is None:
        if spacing is None or len(spacing) != 3 or min(spacing) <= 0:
            raise CaseInputError(f"spacing: found {spacing}; expected three sizes in mm (z, y, x)")
        affine = np.diag([*map(float, spacing[::-1]), 1.0])
    return CTVolume(array, np.asarray(affine, dtype=np.float64))


def region_map_entry(mask: Mask, source: str | None, scheme: RegionScheme) -> dict[str, Any]:
    """``region_map`` of a manifest; a label map in memory has the key ``volume``.

    Args:
        mask: a label map (file or CTVolume), a folder with one mask file per class (``liver.nii.gz``), or the
            ``region_map`` of a case in a manifest.
        source: meaning of the ids of a label map.

    Raises:
        CaseInputError: a label map without ``source``, a folder without a mask of a known class, or another type.
    """
    if isinstance(mask, dict):
        if len(mask.keys() & {"path", "files", "volume"}) != 1:
            raise CaseInputError(f"mask: found a dict with keys {sorted(mask)}; expected one of path, files and volume")
        return mask
    if not isinstance(mask, (str, Path, CTVolume)):
        raise CaseInputError(
            f"mask: found {type(mask).__name__}; expected a path, CTVolume(array, affine), or the region_map of a case "
            "in a manifest"
        )
    if not isinstance(mask, CTVolume) and not is_url(mask):
        mask = local(mask)
    if isinstance(mask, Path) and mask.is_dir():
        files = sorted(path for path in mask.iterdir() if path.name.lower().endswith(SUFFIXES))
        classes = {name: str(path) for path in files if (name := class_of(path, scheme))}
        if not classes:
            raise CaseInputError(
                f"{mask} contains {len(files)} image files, but none has the name of a known class; expected one "
                "mask file per class, for example liver.nii.gz"
            )
        return {"files": classes}
    if source is None:
        raise CaseInputError(
            f"mask_source is missing: the ids of a label map depend on it. Expected one of {', '.join(scheme.sources)}"
        )
    return {"volume": mask, "source": source} if isinstance(mask, CTVolume) else {"path": str(mask), "source": source}


def _is_list(item: Any) -> bool:
    return isinstance(item, Sequence) and not isinstance(item, str)


def _masks_of(mask: Any, count: int, several: bool) -> Sequence[Any]:
    """A mask or None for each of ``count`` inputs, which were given as a list if ``several``."""
    if not _is_list(mask):
        if mask is not None and count > 1:
            raise CaseInputError(f"mask: found {_named(mask)} for {count} inputs; expected a list with one mask per CT")
        return [mask] * count
    if not several:
        raise CaseInputError(f"mask: found a list of {len(mask)} masks for one input; expected one mask")
    if len(mask) != count:
        raise CaseInputError(f"mask: found {len(mask)} masks for {count} inputs; expected one mask or None per CT")
    return mask


def _named(mask: Any) -> str:
    return str(mask) if isinstance(mask, (str, Path)) else f"one {type(mask).__name__}"


def _add_path(
    found: CaseInputs,
    path: str | Path,
    mask: Mask | None,
    source: str | None,
    split: str | None,
    scheme: RegionScheme,
    allow_outside: bool,
) -> None:
    if str(path).lower().endswith(".jsonl"):
        if mask is not None:
            raise CaseInputError(
                f"mask: found {_named(mask)}; not allowed with the manifest {path}, whose cases have their own masks"
            )
        found.cases += [InputCase(case) for case in read_manifest(path, split, allow_outside=allow_outside)]
    elif split is not None:
        raise CaseInputError(f"split {split!r}: found {path}; expected a manifest (.jsonl)")
    elif isinstance(path, Path) and path.is_dir():
        _add_folder(found, path, mask, source, scheme)
    else:
        found.cases.append(one_case(path, mask, source, scheme))


def _add_folder(found: CaseInputs, folder: Path, mask: Mask | None, source: str | None, scheme: RegionScheme) -> None:
    """Add the CTs of a folder: one DICOM series, or all CTs at any depth."""
    rules = FolderRules(source or FolderRules.source, allow_no_mask=True, split="test")
    listed = folder_cases(folder, scheme, rules)
    if not listed.cases and not listed.dropped:
        raise CaseInputError(
            f"{folder}: found no CT; expected files with a suffix of {', '.join(SUFFIXES)}, or DICOM files"
        )
    if mask is not None and len(listed.cases) > 1:
        raise CaseInputError(
            f"mask: found one mask for the {len(listed.cases)} CTs in {folder}; expected one CT, a manifest with "
            "masks, or masks next to the CTs and mask_source"
        )
    for case in listed.cases:
        volume = case["volume"] if isinstance(case["volume"], dict) else {"path": case["volume"]}
        region_map = case["region_map"] if source is not None else None
        if mask is not None:
            region_map = region_map_entry(mask, source, scheme)
        entry = dict(case_id=case["case_id"], patient_id=case["patient_id"], volume=volume, region_map=region_map)
        found.cases.append(InputCase(entry))
    for name, reason in listed.dropped:
        reason = f"{folder / name if name != '.' else folder}: {reason}"
        found.failures.append(CaseFailure(name, str(folder / name), reason))
    found.notes += listed.notes


def _with_linked_data(entry: dict[str, Any]) -> dict[str, Any]:
    """Case in which the data of image headers may be anywhere."""
    out = dict(entry)
    for key in ("volume", "region_map"):
        image = entry.get(key)
        if not isinstance(image, dict):
            continue
        if any(path and may_name_files(path) for path in (image.get("path"), *image.get("files", {}).values())):
            out[key] = {**image, "allow_outside": True}
    return out


def _check_exists(path: str) -> None:
    if not is_url(path) and not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file or folder; expected a CT file, a folder or a manifest (.jsonl)")


def _unique(cases: list[InputCase]) -> list[InputCase]:
    """Cases with unique ids: equal ids get the names of parent folders, or a number."""
    counts = Counter(case.case_id for case in cases)
    taken = {name for name, count in counts.items() if count == 1}
    out = []
    for case in cases:
        if counts[case.case_id] > 1:
            name = _longer_id(case, taken)
            taken.add(name)
            case = InputCase({**case.entry, "case_id": name})
        out.append(case)
    return out


def _longer_id(case: InputCase, taken: set[str]) -> str:
    parents = list(Path(case.path).parent.parts)[::-1] if case.path else []
    name = case.case_id
    for parent in parents[:3]:
        name = f"{parent.strip('/') or 'root'}/{name}"
        if name not in taken:
            return name
    return next(name for k in range(1, len(taken) + 2) if (name := f"{case.case_id}_{k}") not in taken)
