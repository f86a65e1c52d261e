"""From a manifest case to arrays on the CT's own grid."""

from __future__ import annotations

import warnings

import numpy as np

from ctvlm.anatomy import RegionScheme, UnknownLabelError, implausible_regions
from ctvlm.registry import TRANSFORMS
from ctvlm.volume import CTVolume, match_mask, read_ct, read_label_map


@TRANSFORMS.register_module()
class LoadCT:
    """Read the CT, and bring its region map and lesion masks onto its grid in physical space.

    Adds ``volume`` (D, H, W) in HU, ``affine``, ``spacing`` (mm, z y x), ``region_map`` (uint8 region ids, or
    None), ``lesion_map`` (uint8 lesion ids, or None) and ``coarse_masks``: class name to mask, for classes that
    cover several regions ("lung") and so do not fold into the map.

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
        scheme = RegionScheme.load(results.get("scheme", "thorax_abdomen_20"))
        spec = dict(results["volume"]) if isinstance(results["volume"], dict) else {"path": results["volume"]}
        ct = read_ct(spec.pop("path"), **spec)
        region_map, coarse = self._regions(results.get("region_map"), ct, scheme)
        if region_map is not None and self.check_regions:
            for problem in implausible_regions(scheme, region_map, ct.array, ct.affine):
                warnings.warn(f"case {results['case_id']}: {problem}", stacklevel=2)
        return {
            **results,
            "volume": ct.array,
            "affine": ct.affine,
            "spacing": ct.spacing,
            "scheme": scheme.name,
            "region_map": region_map,
            "coarse_masks": coarse,
            "lesion_map": self._lesions(results.get("lesion_masks") or [], ct),
        }

    def _regions(self, spec: dict | None, ct: CTVolume, scheme: RegionScheme) -> tuple[np.ndarray | None, dict]:
        if spec is None:
            return None, {}
        spec = dict(spec)
        source = spec.pop("source", None) or self.region_source or scheme.name
        if "path" in spec:
            path = spec.pop("path")
            mask = match_mask(read_label_map(path, **spec), ct, name=path)
            if mask is None:
                return None, {}
            try:
                return scheme.fold(mask.array, source), {}
            except UnknownLabelError as error:
                raise UnknownLabelError(f"{path}: {error}") from None
        files = spec.pop("files")
        region_map, coarse = np.zeros(ct.shape, np.uint8), {}
        for class_name, path in files.items():
            covered = scheme.ids_of_class(class_name)
            mask = match_mask(read_label_map(path, **spec), ct, name=path) if covered else None
            if mask is None:
                continue
            if len(covered) == 1:
                # Where two classes overlap the first named keeps the voxel.
                region_map[(mask.array > 0) & (region_map == 0)] = covered[0]
            else:
                coarse[class_name] = mask.array > 0
        return (region_map if region_map.any() else None), coarse

    @staticmethod
    def _lesions(specs: list[dict], ct: CTVolume) -> np.ndarray | None:
        lesion_map = np.zeros(ct.shape, np.uint8)
        for spec in specs:
            options = {k: v for k, v in spec.items() if k not in ("path", "id", "name")}
            mask = match_mask(read_label_map(spec["path"], **options), ct, name=spec["path"])
            if mask is None:
                continue
            if mask.array.dtype != np.uint8:
                raise UnknownLabelError(f"{spec['path']}: lesion ids go to {mask.array.max()}; expected 1..255")
            marked = mask.array > 0
            lesion_map[marked] = mask.array[marked] if spec.get("id") is None else spec["id"]
        return lesion_map if lesion_map.any() else None
