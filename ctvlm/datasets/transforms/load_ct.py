"""From a manifest case to arrays on the CT's own grid."""

from __future__ import annotations

import warnings

import numpy as np

from ctvlm.anatomy import RegionScheme, UnknownLabelError, implausible_regions, scheme_of
from ctvlm.registry import TRANSFORMS
from ctvlm.volume import MIN_OVERLAP, CTVolume, QFormConflictWarning, read_ct, read_label_map, sample_mask

NAMED = 4  # names in one warning


class MaskWarning(UserWarning):
    """A mask that marks nothing, lies mostly outside its CT, or has two forms that disagree where the CT has not."""


class RegionWarning(UserWarning):
    """A region whose HU or side of the body contradicts its name."""


@TRANSFORMS.register_module()
class LoadCT:
    """Read the CT, and bring its region map and lesion masks onto its grid in physical space.

    Adds ``volume`` (D, H, W) in HU, ``affine``, ``spacing`` (mm, z y x), ``shear_degrees`` (degrees of shear taken out,
    see CTVolume), ``region_map`` (uint8 region ids, or None), ``lesion_map`` (uint8 lesion ids, or None),
    ``coarse_masks``: class name to mask, for classes that cover several regions ("lung") and so do not fold into the
    map, and ``empty_masks``: the classes whose file marks no voxel. TotalSegmentator writes a file for every class, so
    an empty one is no fault and causes no warning.

    Each kind of doubt about a case is one warning, a MaskWarning or a RegionWarning, however many masks it concerns.

    Args:
        region_source: what the ids of region maps are, where the case does not say (see ``RegionScheme.fold``);
            by default the scheme's own.
        check_regions: warn where a region's mean HU or side contradicts its name, as after a fold of the wrong
            version or a flipped header.

    Raises:
        CTReadError, MaskMismatchError, UnknownLabelError, FileNotFoundError: name the file.
    """

    deterministic = True

    def __init__(self, region_source: str | None = None, check_regions: bool = True) -> None:
        self.region_source = region_source
        self.check_regions = check_regions

    def __call__(self, results: dict) -> dict:
        scheme = scheme_of(results)
        spec = dict(results["volume"]) if isinstance(results["volume"], dict) else {"path": results["volume"]}
        ct = read_ct(spec.pop("path"), **spec)
        reader = _MaskReader(ct)
        region_map, coarse = self._regions(results.get("region_map"), reader, scheme)
        spec = results.get("region_map") or {}
        absent = [name for name, path in spec.get("files", {}).items() if path in reader.empty]
        if region_map is not None or coarse:
            # Other masks mark something: an empty class file then only says that the organ is not in the scan.
            reader.empty = []
        lesion_map = self._lesions(results.get("lesion_masks") or [], reader)
        reader.warn(results["case_id"])
        if region_map is not None and self.check_regions:
            problems = implausible_regions(scheme, region_map, ct.array, ct.affine)
            if problems:
                warnings.warn(f"case {results['case_id']}: {_some(problems, '; ')}", RegionWarning, stacklevel=2)
        return {
            **results,
            "volume": ct.array,
            "affine": ct.affine,
            "spacing": ct.spacing,
            "shear_degrees": ct.shear_degrees,
            "scheme": scheme.reference,
            "region_map": region_map,
            "coarse_masks": coarse,
            "empty_masks": absent,
            "lesion_map": lesion_map,
        }

    def _regions(self, spec: dict | None, reader: _MaskReader, scheme: RegionScheme) -> tuple[np.ndarray | None, dict]:
        if spec is None:
            return None, {}
        spec = dict(spec)
        source = spec.pop("source", None) or self.region_source or scheme.name
        if "path" in spec:
            path = spec.pop("path")
            mask = reader(path, spec)
            if mask is None:
                return None, {}
            try:
                return scheme.fold(mask, source), {}
            except UnknownLabelError as error:
                raise UnknownLabelError(f"{path}: {error}") from None
        files = spec.pop("files")
        region_map, coarse = np.zeros(reader.ct.shape, np.uint8), {}
        for class_name, path in files.items():
            covered = scheme.ids_of_class(class_name)
            mask = reader(path, spec) if covered else None
            if mask is None:
                continue
            if len(covered) == 1:
                # Where two classes overlap the first named keeps the voxel.
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
                raise UnknownLabelError(f"{spec['path']}: lesion ids go to {mask.max()}; expected 1..255")
            marked = mask > 0
            lesion_map[marked] = mask[marked] if spec.get("id") is None else spec["id"]
        return lesion_map if lesion_map.any() else None


class _MaskReader:
    """Reads masks onto a CT's grid, and keeps the paths of those that one should look at."""

    def __init__(self, ct: CTVolume) -> None:
        self.ct = ct
        self.empty: list[str] = []
        self.cut: list[str] = []
        self.two_forms: list[str] = []

    def __call__(self, path: str, options: dict) -> np.ndarray | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", QFormConflictWarning)  # one for all masks, see warn
            labels = read_label_map(path, **options)
        if labels.header.alternative is not None and self.ct.header.alternative is None:
            self.two_forms.append(path)
        mask, kept = sample_mask(labels, self.ct, name=path)
        if mask is None:
            self.empty.append(path)
            return None
        if kept < MIN_OVERLAP:
            self.cut.append(f"{path} ({kept:.0%} inside)")
        return mask.array

    def warn(self, case_id: str) -> None:
        """One warning per kind of doubt."""
        for paths, what in (
            (self.empty, "marks no voxel on the CT's grid; taken as absent"),
            (self.cut, "lies mostly outside the CT; what lies inside is used"),
            (self.two_forms, "has a sform and a qform that disagree; the sform is used"),
        ):
            if paths:
                count = "a mask" if len(paths) == 1 else f"each of {len(paths)} masks"
                warnings.warn(f"case {case_id}: {count} {what}: {_some(paths, ', ')}", MaskWarning, stacklevel=3)


def _some(parts: list[str], separator: str) -> str:
    more = f"{separator}and {len(parts) - NAMED} more" if len(parts) > NAMED else ""
    return separator.join(parts[:NAMED]) + more
