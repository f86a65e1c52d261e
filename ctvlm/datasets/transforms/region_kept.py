"""Fraction of each region that remains after a crop."""

from __future__ import annotations

import numpy as np

from ctvlm.anatomy import scheme_of
from ctvlm.volume.store import label_counts


def record_region_kept(results: dict, before: np.ndarray, after: np.ndarray, growth: float = 1.0) -> dict:
    """Add ``region_kept`` to ``results``: region name to the fraction (0 to 1) of its voxels that remain.

    Fractions of successive transforms are multiplied. Regions that are absent before the transform are omitted.

    Args:
        results: case.
        before: region map (D, H, W) before the transform, or its voxel counts per id (``label_counts``).
        after: region map after the transform, or its voxel counts.
        growth: ratio of voxel counts after and before for a region that is not cut.
    """
    scheme = scheme_of(results)
    counts_before, counts_after = (label_counts(x) if x.ndim == 3 else x for x in (before, after))
    kept = dict(results.get("region_kept") or {})
    for region in np.flatnonzero(counts_before[: scheme.num_regions + 1]).tolist():
        if region:
            name = scheme.name_of(region)
            kept[name] = kept.get(name, 1.0) * min(1.0, float(counts_after[region] / (growth * counts_before[region])))
    return {**results, "region_kept": kept}
