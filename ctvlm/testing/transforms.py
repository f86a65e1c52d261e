"""Contract of transforms of a data pipeline (registry TRANSFORMS)."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np

from ctvlm.registry import TRANSFORMS
from ctvlm.testing.building import Component, Recipe
from ctvlm.testing.require import require
from ctvlm.testing.samples import pipeline_case
from ctvlm.testing.tensors import equal
from ctvlm.utils import seed_everything

MAPS = ("region_map", "lesion_map")


def check_transform(component: Component, case: dict[str, Any] | None = None, **options: Any) -> None:
    """Check a transform, a callable from a results dict to a results dict.

    Properties: ``picklable config``, ``picklable`` (workers receive the transform), ``inputs unchanged`` (data sets
    cache what a transform receives), ``deterministic`` (equal seeds of Python, NumPy and torch give equal results, and
    any seed does if the transform declares ``deterministic = True``), ``case_id``, ``maps`` (region and lesion maps
    have the volume's shape and stay integer), ``spacing`` (equal to the voxel size in the affine), ``optional keys`` (a
    case may lack maps and text).

    Args:
        component: class, registered name, or config.
        case: the results dict to transform; a small case in memory by default. A transform that reads files needs it.
        options: constructor arguments.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(TRANSFORMS, component, options)
    recipe.check_config()
    name = recipe.name
    case = pipeline_case() if case is None else case
    transform = recipe.build()
    try:
        pickle.loads(pickle.dumps(transform))  # noqa: S301 (written in this line)
    except Exception as error:
        require(False, name, "picklable", f"{type(error).__name__}: {error}", "a transform that pickles")

    before = copy.deepcopy(case)
    first = _run(transform, case, 0)
    require(equal(case, before), name, "inputs unchanged", "a results dict that changed in place", "a new dict")

    for seed in range(1, 9):
        output = _run(transform, case, seed)
        again = _run(recipe.build(), copy.deepcopy(before), seed)
        require(equal(output, again), name, "deterministic", f"two results of seed {seed}", "equal results")
        _check_output(name, output, before)
        if getattr(transform, "deterministic", False):
            found = "results that depend on the seed although deterministic = True"
            require(equal(output, first), name, "deterministic", found, "equal results")

    bare = {**before, **dict.fromkeys(MAPS)} if isinstance(before.get("volume"), np.ndarray) else dict(before)
    bare.update(report={}, cot=[], labels={})
    try:
        _check_output(name, _run(transform, bare, 0), bare)
    except (KeyError, AttributeError, TypeError, IndexError) as error:
        expected = "a case without maps, report and steps to pass"
        require(False, name, "optional keys", f"{type(error).__name__}: {error}", expected)


def _run(transform: Any, case: dict[str, Any], seed: int) -> dict[str, Any]:
    seed_everything(seed)
    return transform(case)


def _check_output(name: str, output: Any, before: dict[str, Any]) -> None:
    require(isinstance(output, dict), name, "case_id", type(output).__name__, "a dict")
    if "data_samples" in output:
        sample = output["data_samples"]
        require(sample.case_id == before["case_id"], name, "case_id", sample.case_id, before["case_id"])
        shape, region_map = tuple(output["inputs"]["volume"].shape[-3:]), output["inputs"].get("region_map")
        fits = region_map is None or tuple(region_map.shape) == shape
        require(fits, name, "maps", "a region map of another shape", f"shape {shape}")
        return
    require(output.get("case_id") == before["case_id"], name, "case_id", output.get("case_id"), before["case_id"])
    volume = output["volume"]
    for key in MAPS:
        array = output.get(key)
        if array is not None and isinstance(volume, np.ndarray):
            require(array.shape == volume.shape, name, "maps", f"{key} of shape {array.shape}", volume.shape)
            require(array.dtype.kind in "iu", name, "maps", f"{key} of dtype {array.dtype}", "integers")
    if output.get("affine") is not None:
        sizes = np.linalg.norm(np.asarray(output["affine"])[:3, :3], axis=0)[::-1]
        fits = np.allclose(sizes, output["spacing"], rtol=1e-4)
        require(
            fits, name, "spacing", tuple(output["spacing"]), f"{tuple(sizes.round(4))} mm (z, y, x), from the affine"
        )
