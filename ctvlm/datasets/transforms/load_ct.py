"""Loading of a manifest case as arrays on the grid of the CT."""

from __future__ import annotations

import warnings

import numpy as np

from ctvlm.anatomy import RegionScheme, UnknownLabelError, check_regions, scheme_of
from ctvlm.registry import TRANSFORMS
from ctvlm.volume import MIN_OVERLAP, CTVolume, QFormConflictWarning, read_ct, read_label_map, sample_mask
from ctvlm.volume.io import ct_in_memory, labels_in_memory

MAX_LISTED = 4  # items listed in one warning


class MaskWarning(UserWarning):
    """A mask is empty, mostly outside its CT, or has conflicting affines although the CT has not."""


class RegionWarning(UserWarning):
    """The HU or the side of a region contradict its name."""


@TRANSFORMS.register_module()
class LoadCT:
    """Read a CT and resample its region map and lesion masks to its grid in physical space.

    Instead of a file, ``volume`` and ``region_map["volume"]`` may be a CTVolume.

    Added keys:

    - ``volume``: (D, H, W) in HU
    - ``affine``; ``spacing`` in mm (z, y, x); ``shear_degrees``: removed shear in degrees, see CTVolume
    - ``header``: grid of the file in its own axis order, see HeaderGeometry
    - ``region_map``: uint8 region ids, or None
    - ``region_check``: RegionCheck of the region map, or None
    - ``lesion_map``: uint8 lesion ids, or None
    - ``coarse_masks``: masks by class name, for classes that cover several regions ("lung")
    - ``empty_masks``: classes with an empty file. TotalSegmentator writes a file for every class, so empty files cause
      no warning.

    There is at most one MaskWarning per type of problem, and one RegionWarning for regions whose mean HU or side
    contradicts their name, which indicates a wrong label map version or a flipped header.

    Args:
        region_source: label map of region maps without a declared source (see ``RegionScheme.fold``); default: the
            ids of the scheme.

    Raises:
        CTReadError, MaskMismatchError, UnknownLabelError, FileNotFoundError: the message contains the file.
    """

    deterministic = True

    def __init__(self, region_source: str | None = None) -> None:
        self.region_source = region_source

    def __call__(self, results: dict) -> dict:
        scheme = scheme_of(results)
        ct = _read_volume(results["volume"], results["case_id"])
        reader = _MaskReader(ct)
        region_map, coarse = self._regions(results.get("region_map"), reader, scheme)
        spec = results.get("region_map") or {}
        absent = [name for name, path in spec.get("files", {}).items() if path in reader.empty]
        if region_map is not None or coarse:
            # Other masks are not empty, so an empty class file means that the organ is not in the scan.
            reader.empty = []
        lesion_map = self._lesions(results.get("lesion_masks") or [], reader)
        reader.warn(results["case_id"])
        check = None if region_map is None else check_regions(scheme, region_map, ct.array, ct.affine)
        if check and check.problems:
            warnings.warn(f"case {results['case_id']}: {_join(check.messages, '; ')}", RegionWarning, stacklevel=2)
        return {
            **results,
            "volume": ct.array,
            "affine": ct.affine,
            "spacing": ct.spacing,
            "shear_degrees": ct.shear_degrees,
            "header": ct.header,
            "scheme": scheme.reference,
            "region_map": region_map,
            "region_check": check,
            "coarse_masks": coarse,
            "empty_masks": absent,
            "lesion_map": lesion_map,
        }

    def _regions(self, spec: dict | None, reader: _MaskReader, scheme: RegionScheme) -> tuple[np.ndarray | None, dict]:
        if spec is None:
            return None, {}
        spec = dict(spec)
        source = spec.pop("source", None) or self.region_source or scheme.name
        if "files" not in spec:
            labels = spec.pop("volume", None)
            name = "mask" if labels is not None else spec.pop("path")
            mask = reader(name, spec, labels)
            if mask is None:
                return None, {}
            try:
                return scheme.fold(mask, source), {}
            except UnknownLabelError as error:
                raise UnknownLabelError(f"{name}: {error}") from None
        files = spec.pop("files")
        region_map, coarse = np.zeros(reader.ct.shape, np.uint8), {}
        for class_name, path in files.items():
            covered = scheme.ids_of_class(class_name)
            mask = reader(path, spec) if covered else None
            if mask is None:
                continue
            if len(covered) == 1:
                # In overlaps of two classes, the first one has priority.
                region_map[(mask > 0) & (region_map == 0)] = covered[0]
            else:
                coarse[class_name] = mask > 0
        return (region_map if region_map.any() else None), coarse

    @staticmethod
    def _lesions(specs: list[dict], reader: _MaskReader) -> np.ndarray | None:
        lesion_map = np.zeros(reader.ct.shape, np.uint8)
        for spec in specs:
            mask = reader(spec["path"], {k: v for k, v in spec.items() if k not in ("path", "id", "name")})
            if mask is None:
                continue
            if mask.dtype != np.uint8:
                raise UnknownLabelError(f"{spec['path']}: found lesion id {mask.max()}; expected 1..255")
            marked = mask > 0
            lesion_map[marked] = mask[marked] if spec.get("id") is None else spec["id"]
        return lesion_map if lesion_map.any() else None


class _MaskReader:
    """Reads masks, resamples them to the grid of a CT, and collects the paths of doubtful masks."""

    def __init__(self, ct: CTVolume) -> None:
        self.ct = ct
        self.empty: list[str] = []
        self.outside: list[str] = []
        self.conflicting: list[str] = []

    def __call__(self, path: str, options: dict, volume: CTVolume | None = None) -> np.ndarray | None:
        """Mask on the grid of the CT, or None if it is empty there; ``path`` is the name of a mask in memory."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", QFormConflictWarning)  # reported once for all masks, see warn
            labels = read_label_map(path, **options) if volume is None else labels_in_memory(volume, path)
        if _has_conflict(labels) and not _has_conflict(self.ct):
            self.conflicting.append(path)
        mask, inside = sample_mask(labels, self.ct, name=path)
        if mask is None:
            self.empty.append(path)
            return None
        if inside < MIN_OVERLAP:
            self.outside.append(f"{path} ({inside:.0%} inside)")
        return mask.array

    def warn(self, case_id: str) -> None:
        """Emit one warning per type of problem."""
        for paths, problem in (
            (self.empty, "empty on the CT grid and ignored"),
            (self.outside, "mostly outside the CT; only the part inside is used"),
            (self.conflicting, "with different sform and qform; the sform is used"),
        ):
            if paths:
                count = "1 mask" if len(paths) == 1 else f"{len(paths)} masks"
                warnings.warn(f"case {case_id}: {count} {problem}: {_join(paths, ', ')}", MaskWarning, stacklevel=3)


def _read_volume(volume: str | dict | CTVolume, case_id: str) -> CTVolume:
    if isinstance(volume, CTVolume):
        return ct_in_memory(volume, case_id)
    spec = dict(volume) if isinstance(volume, dict) else {"path": volume}
    return read_ct(spec.pop("path"), **spec)


def _has_conflict(volume: CTVolume) -> bool:
    return volume.header is not None and volume.header.alternative is not None


def _join(parts: list[str], separator: str) -> str:
    more = f"{separator}and {len(parts) - MAX_LISTED} more" if len(parts) > MAX_LISTED else ""
    return separator.join(parts[:MAX_LISTED]) + more
