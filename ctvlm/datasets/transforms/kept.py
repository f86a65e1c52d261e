"""What share of each region is left where a part of the volume was cut away."""

from __future__ import annotations

import numpy as np

from ctvlm.anatomy import scheme_of
from ctvlm.volume.store import label_counts


def with_kept(results: dict, before: np.ndarray, after: np.ndarray, growth: float = 1.0) -> dict:
    """``results`` with ``region_kept``: region name to the share (0 to 1) of its voxels that are left.

    Shares of successive transforms multiply. A region that was not there before is not named.

    Args:
        before, after: region maps (D, H, W) around one transform, or voxels per id as ``label_counts`` gives them.
        growth: voxels that a whole region has after the transform, relative to before.
    """
    scheme = scheme_of(results)
    had, left = (label_counts(x) if x.ndim == 3 else x for x in (before, after))
    kept = dict(results.get("region_kept") or {})
    for region in np.flatnonzero(had[: scheme.num_regions + 1]).tolist():
        if region:
            name = scheme.name_of(region)
            kept[name] = kept.get(name, 1.0) * min(1.0, float(left[region] / (growth * had[region])))
    return {**results, "region_kept": kept}
