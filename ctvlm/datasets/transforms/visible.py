"""Which reasoning steps still speak of what a cut volume shows."""

from __future__ import annotations

import numpy as np

from ctvlm.anatomy import RegionScheme


def visible_steps(cot: list[dict], region_map: np.ndarray | None, scheme: RegionScheme) -> list[dict]:
    """Steps that name no region, or at least one with a voxel in the map; all of them where there is no map."""
    if region_map is None:
        return cot
    seen = {scheme.name_of(int(i)) for i in np.flatnonzero(np.bincount(region_map.ravel())) if i}
    return [step for step in cot if not step.get("regions") or seen & set(step["regions"])]
