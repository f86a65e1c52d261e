"""Helpers of the converter tests: tools as functions, and a small CT-RATE of phantoms."""

from __future__ import annotations

import csv
import importlib.util
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

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


def write_nifti(path: Path, phantom: dict, affine: np.ndarray | None = None) -> None:
    """Write the volume of a phantom in HU, as axes x, y, z (increasing to left, posterior, superior)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.ascontiguousarray(phantom["volume"][:, ::-1, ::-1].transpose(2, 1, 0)).astype(np.int16)
    nib.save(nib.Nifti1Image(stored, np.diag([-1.0, -1.0, 2.0, 1.0]) if affine is None else affine), path)


def write_table(path: Path, rows: list[dict]) -> None:
    """Write rows as CSV, or as TSV by suffix."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
