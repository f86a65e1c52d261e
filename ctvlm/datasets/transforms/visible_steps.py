"""Selection of the reasoning steps whose regions are in a cropped volume."""

from __future__ import annotations

import numpy as np

from ctvlm.anatomy import RegionScheme


def visible_steps(cot: list[dict], region_map: np.ndarray | None, scheme: RegionScheme) -> list[dict]:
    """Return the steps without regions or with at least one region in the map; all steps if there is no map."""
    if region_map is None:
        return cot
    present = {scheme.name_of(int(i)) for i in np.flatnonzero(np.bincount(region_map.ravel())) if i}
    return [step for step in cot if not step.get("regions") or present & set(step["regions"])]
