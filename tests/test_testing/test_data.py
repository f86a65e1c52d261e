"""Every registered data set and transform passes its check, and the checks name what broken ones do wrong."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info

import ctvlm.phantom.phantom_ct  # noqa: F401 (registers PhantomCT)
from ctvlm.datasets import write_manifest
from ctvlm.datasets.preprocess import Recipe, manifest_line, preprocess_case, read_record
from ctvlm.registry import DATASETS, TRANSFORMS
from ctvlm.testing import check_dataset, check_transform
from ctvlm.testing.samples import pipeline_case
from tests.test_datasets.conftest import case_folder  # noqa: F401 (a fixture)

PIPELINE = [dict(type="LoadCT"), dict(type="ResampleCT", shape=(8, 16, 16)), dict(type="PackCTInputs")]
IN_MEMORY: dict[str, list[dict]] = {
    "PackCTInputs": [{}, dict(impression_from_steps=True)],
    "TorchIOTransform": [dict(name="RandomBlur", std=(0, 1), p=0.5)],
    "RandomAffineCT": [dict(p=1.0)],
    "RandomCropCT": [dict(shape=(10, 16, 16)), dict(shape=(16, 16, 16), drop_unseen=True)],
    "RandomFlipCT": [dict(p=0.5)],
    "RandomIntensityCT": [dict(log_gamma=0.02, p=1.0)],
    "RandomNoiseCT": [dict(p=1.0)],
    "RandomRegionContrastCT": [dict(p=1.0)],
    "RandomResizedCropCT": [dict(shape=(8, 16, 16)), dict(shape=(8, 16, 16), p=0.0)],
    "RandomShiftCT": [{}],
    "ShuffleSentences": [dict(p=1.0)],
    "DropSections": [dict(step_p=0.3, section_p=0.3)],
    "ResampleCT": [dict(shape=(8, 16, 16)), dict(spacing=(5.0, 3.0, 3.0), crop_to_body=True)],
    "MeasuredReasoning": [{}],
}
READ_FILES = {"LoadCT", "LoadStore"}
DATA_SETS = {"PhantomCT", "ManifestCT"}


def test_nothing_is_left_out():
    for registry, known in ((TRANSFORMS, set(IN_MEMORY) | READ_FILES), (DATASETS, DATA_SETS)):
        registered = {name for name, cls in registry.module_dict.items() if cls.__module__.startswith("ctvlm.")}
        assert registered == known


@pytest.mark.parametrize(("name", "options"), [(name, o) for name, each in IN_MEMORY.items() for o in each])
def test_transform(name, options):
    check_transform(name, **options)


def manifest_case(folder, **options):
    dataset = DATASETS.build(dict(type="ManifestCT", ann_file=str(folder / "cases.jsonl"), **options))
    return dataset.get_data_info(1)


def test_load_ct(case_folder):  # noqa: F811
    check_transform("LoadCT", manifest_case(case_folder))


def test_load_store(case_folder, tmp_path):  # noqa: F811
    pytest.importorskip("blosc2")
    out = str(tmp_path / "store")
    preprocess_case(manifest_case(case_folder), out, Recipe(spacing=(4.0, 2.5, 2.5)))
    write_manifest([manifest_line(out, read_record(out, "p1"))], tmp_path / "store.jsonl")
    case = DATASETS.build(dict(type="ManifestCT", ann_file=str(tmp_path / "store.jsonl"))).get_data_info(0)
    check_transform("LoadStore", case)
    check_transform("LoadStore", case, window=(4, 6, 8))


def test_manifest_ct(case_folder):  # noqa: F811
    check_dataset("ManifestCT", ann_file=str(case_folder / "cases.jsonl"), pipeline=PIPELINE)


def test_phantom_ct():
    pipeline = [dict(type="PackCTInputs")]
    check_dataset("PhantomCT", num_cases=3, shape=(8, 24, 24), num_workers=0, pipeline=pipeline)
    check_dataset("PhantomCT", num_cases=2, shape=(8, 24, 24), cache=False, with_region_map=False)


class Shift:
    """A correct random transform."""

    def __call__(self, results):
        return {**results, "volume": results["volume"] + np.int16(torch.randint(-5, 5, ()).item())}


class InPlace(Shift):
    def __call__(self, results):
        results["volume"] += 1
        return results


class DrawsFromNumPy(Shift):
    def __call__(self, results):
        return {**results, "volume": results["volume"] + np.random.randint(5)}  # noqa: NPY002


class DrawsFromPython(Shift):
    def __call__(self, results):
        return {**results, "volume": results["volume"] + random.randint(0, 5)}


class ClaimsDeterminism(Shift):
    deterministic = True


class HasState(Shift):
    count = 0

    def __call__(self, results):
        self.count += 1
        return {**results, "volume": results["volume"] + self.count}


class CutsVolumeOnly(Shift):
    def __call__(self, results):
        return {**results, "volume": results["volume"][1:]}


class ForgetsSpacing(Shift):
    def __call__(self, results):
        return {**results, "affine": results["affine"] * 2}


class NeedsMap(Shift):
    def __call__(self, results):
        return {**results, "count": int(results["region_map"].max())}


class LosesId(Shift):
    def __call__(self, results):
        return {key: value for key, value in results.items() if key != "case_id"}


class HasLambda(Shift):
    def __init__(self):
        self.function = lambda x: x


@pytest.mark.parametrize("transform", [Shift, DrawsFromNumPy, DrawsFromPython])
def test_correct_transform(transform):
    check_transform(transform)
    assert pipeline_case()["volume"].shape == pipeline_case()["region_map"].shape


@pytest.mark.parametrize(
    ("transform", "name"),
    [
        (InPlace, "inputs unchanged"),
        (ClaimsDeterminism, "deterministic"),
        (HasState, "deterministic"),
        (CutsVolumeOnly, "maps"),
        (ForgetsSpacing, "spacing"),
        (NeedsMap, "optional keys"),
        (LosesId, "case_id"),
        (HasLambda, "picklable"),
    ],
)
def test_broken_transform(transform, name):
    with pytest.raises(AssertionError, match=f"{transform.__name__}: property '{name}'"):
        check_transform(transform)


class Small:
    """A correct data set."""

    size = 2

    def __len__(self):
        return self.size

    def get_data_info(self, index):
        return dict(case_id=f"case_{index}", patient_id=f"patient_{index}", split="train")

    def __getitem__(self, index):
        if index >= self.size:
            raise IndexError(index)
        return {**self.get_data_info(index), "spacing": (1.0, 1.0, 1.0), "volume": np.full((2, 3, 4), index)}


class Empty(Small):
    size = 0


class OneId(Small):
    def get_data_info(self, index):
        return {**super().get_data_info(index), "case_id": "case"}


class NoSplit(Small):
    def get_data_info(self, index):
        return {**super().get_data_info(index), "split": None}


class PatientInTwoSplits(Small):
    def get_data_info(self, index):
        return {**super().get_data_info(index), "patient_id": "p", "split": f"split_{index}"}


class NoSpacing(Small):
    def __getitem__(self, index):
        return {**super().__getitem__(index), "spacing": (1.0, 0.0, 1.0)}


class FlatVolume(Small):
    def __getitem__(self, index):
        return {**super().__getitem__(index), "volume": np.zeros((3, 4))}


class RandomItems(Small):
    def __getitem__(self, index):
        return {**super().__getitem__(index), "volume": torch.rand(2, 3, 4)}


class OtherInWorkers(Small):
    def __getitem__(self, index):
        return {**super().__getitem__(index), "volume": np.full((2, 3, 4), get_worker_info() is None)}


class EmptyTexts(Small):
    def texts(self):
        return ["Nodule.", " "]


class NoJson(Small):
    def data_records(self):
        return [{"sources": {1, 2}}]


class NoPickle(Small):
    def __init__(self):
        self.function = lambda x: x


def test_correct_dataset():
    check_dataset(Small)


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        (Empty, "length"),
        (OneId, "ids"),
        (NoSplit, "ids"),
        (PatientInTwoSplits, "ids"),
        (NoSpacing, "spacing"),
        (FlatVolume, "volume"),
        (RandomItems, "deterministic"),
        (OtherInWorkers, "workers"),
        (EmptyTexts, "texts"),
        (NoJson, "data records"),
        (NoPickle, "picklable"),
    ],
)
def test_broken_dataset(dataset, name):
    with pytest.raises(AssertionError, match=f"{dataset.__name__}: property '{name}'"):
        check_dataset(dataset)
