"""Helpers of the converter tests: tools as functions, and a small CT-RATE of phantoms."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

import ctvlm.datasets
from ctvlm.phantom import PhantomCT
from ctvlm.phantom.ct_rate_layout import write_ct_rate

TOOLS = Path(__file__).resolve().parents[2] / "tools" / "dataset_converters"
SHAPE = (12, 32, 32)


# Some tests write the manifest elsewhere than the data set.
read_manifest = partial(ctvlm.datasets.read_manifest, allow_outside=True)


def tool(name: str):
    """Return ``main`` of a converter tool; arguments are converted to text."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *args: module.main([str(a) for a in args])


def phantoms(count: int, split: str = "train") -> list[dict]:
    data = PhantomCT(count, 3, split, SHAPE, cache=False, num_workers=0)
    return [data.results(i) for i in range(count)]


def small_ct_rate(out: Path) -> list[dict]:
    """Write two training phantoms and one of "valid" as CT-RATE; returns their results."""
    results = [*phantoms(2), *phantoms(1, "val")]
    assert list(write_ct_rate(results, 3, out)) == ["train_1_a_1", "train_2_a_1", "valid_1_a_1"]
    return results
