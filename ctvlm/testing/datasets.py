"""Contract of data sets (registry DATASETS)."""

from __future__ import annotations

import json
import pickle
from typing import Any

import torch
from torch.utils.data import DataLoader

from ctvlm.registry import DATASETS
from ctvlm.testing.building import Component, Recipe
from ctvlm.testing.require import require
from ctvlm.testing.tensors import equal


def check_dataset(component: Component, **options: Any) -> None:
    """Check a data set. Random augmentation must be left out of the pipeline.

    Properties: ``length``, ``ids`` (``get_data_info`` has ``case_id``, ``patient_id`` and ``split``; case ids are
    different, a patient is in one split), ``spacing`` (three positive numbers, mm, z y x), ``volume`` (of three
    dimensions, the region map has its shape), ``deterministic`` (an index gives equal items, in any order),
    ``picklable``, ``workers`` (worker processes give the same items), ``texts`` (``texts()``, if it exists, gives
    non-empty texts), ``data records`` (``data_records()``, if it exists, gives JSON).

    Args:
        component: class, registered name, or config.
        options: constructor arguments.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(DATASETS, component, options)
    recipe.check_config()
    name = recipe.name
    dataset = recipe.build()
    require(len(dataset) > 0, name, "length", f"{len(dataset)} cases", "at least one")
    _check_ids(name, dataset)

    items = [dataset[index] for index in range(len(dataset))]
    for index, item in enumerate(items):
        _check_item(name, item, dataset.get_data_info(index)["case_id"])
    torch.manual_seed(1)
    for index in reversed(range(len(items))):
        found = f"another item {index} when it is read again"
        require(equal(dataset[index], items[index]), name, "deterministic", found, "an equal item")

    try:
        pickle.loads(pickle.dumps(dataset))  # noqa: S301 (written in this line)
    except Exception as error:
        require(False, name, "picklable", f"{type(error).__name__}: {error}", "a data set that pickles")
    loader: DataLoader = DataLoader(recipe.build(), batch_size=1, num_workers=2, collate_fn=_first)
    loaded = list(loader)
    require(len(loaded) == len(items), name, "workers", f"{len(loaded)} items", f"{len(items)}")
    for index, (item, expected) in enumerate(zip(loaded, items)):
        found = f"another item {index} in a worker process"
        require(equal(item, expected), name, "workers", found, "an equal item")
    _check_records(name, dataset)


def _first(items: list[Any]) -> Any:
    return items[0]


def _check_ids(name: str, dataset: Any) -> None:
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    splits: dict[str, str] = {}
    for index, info in enumerate(infos):
        for key in ("case_id", "patient_id", "split"):
            found = info.get(key)
            fits = isinstance(found, str) and bool(found)
            require(fits, name, "ids", f"{key} = {found!r} of item {index}", "a non-empty string")
        other = splits.setdefault(info["patient_id"], info["split"])
        found = f"patient {info['patient_id']} in the splits {other} and {info['split']}"
        require(other == info["split"], name, "ids", found, "each patient in one split")
    ids = [info["case_id"] for info in infos]
    repeated = sorted({case for case in ids if ids.count(case) > 1})
    require(not repeated, name, "ids", f"case_id {repeated} more than once", "a different case_id for each item")


def _check_item(name: str, item: Any, case: str) -> None:
    """``item`` is a packed case, or a results dict where the pipeline does not pack."""
    require(isinstance(item, dict), name, "volume", f"{type(item).__name__} for case {case}", "a dict")
    if "data_samples" in item:
        spacing, inputs = item["data_samples"].get("spacing"), item["inputs"]
        found = item["data_samples"].get("case_id")
        require(found == case, name, "ids", f"case_id {found!r} in the data sample", repr(case))
    else:
        spacing, inputs = item.get("spacing"), item
    fits = spacing is not None and len(spacing) == 3 and all(float(value) > 0 for value in spacing)
    require(fits, name, "spacing", f"{spacing} of case {case}", "three positive numbers (mm, z y x)")
    shape = tuple(inputs["volume"].shape)
    fits = len(shape) == 3 or (len(shape) == 4 and shape[0] == 1)
    require(fits, name, "volume", f"shape {shape} of case {case}", "(D, H, W) or (1, D, H, W)")
    region_map = inputs.get("region_map")
    fits = region_map is None or tuple(region_map.shape) == shape[-3:]
    require(fits, name, "volume", f"a region map of another shape in case {case}", f"{shape[-3:]}")


def _check_records(name: str, dataset: Any) -> None:
    if hasattr(dataset, "texts"):
        texts = list(dataset.texts())
        fits = all(isinstance(text, str) and text.strip() for text in texts)
        require(fits, name, "texts", "an empty text", "non-empty strings")
    if hasattr(dataset, "data_records"):
        try:
            json.dumps(dataset.data_records())
        except (TypeError, ValueError) as error:
            require(False, name, "data records", str(error), "values that JSON can hold")
