"""A warning for text scores of a real CT if the weights were trained on phantoms only."""

from __future__ import annotations

import runpy
import warnings

import pytest
import torch

from ctvlm.apis import FeatureExtractor, init_model
from ctvlm.datasets import read_manifest
from ctvlm.engine import read_checkpoint
from ctvlm.phantom import PhantomCT
from ctvlm.utils.training_data import PHANTOMS_ONLY, data_record
from ctvlm.volume import CTVolume, write_nifti


@pytest.fixture(scope="module")
def extractor(trained):
    return FeatureExtractor(trained[0], trained[1], "cpu")


@pytest.fixture(scope="module")
def written(tmp_path_factory, repo_root):
    """Output of write_phantom.py, and the same CT as a file without the mark of a phantom."""
    folder = tmp_path_factory.mktemp("written")
    main = runpy.run_path(str(repo_root / "tools/dataset_converters/write_phantom.py"))["main"]
    assert main([str(folder), "--num-cases", "1", "--shape", "16", "64", "64"]) == 0
    phantom = PhantomCT(1, shape=(16, 64, 64), num_workers=0, cache=False).results(0)
    write_nifti(CTVolume(phantom["volume"], phantom["affine"]), folder / "real.nii.gz")
    return folder


def remarks(extractor, features) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        extractor.similarity(features, ["Pleural effusion."])
        extractor.similarity(features, ["Pleural effusion."])
    return [str(w.message) for w in caught if PHANTOMS_ONLY in str(w.message)]


def test_model_has_records_of_its_training_data(trained):
    (record,) = init_model(trained[0], trained[1], "cpu").training_data
    assert (record["dataset"], record["cases"], record["synthetic"]) == ("PhantomCT", 8, True)
    assert init_model(trained[0], device="cpu").training_data == []


def test_real_ct_gives_one_warning(trained, written):
    extractor = FeatureExtractor(trained[0], trained[1], "cpu")
    assert len(remarks(extractor, extractor(written / "real.nii.gz"))) == 1
    assert not remarks(extractor, extractor(written / "real.nii.gz"))


def test_phantom_gives_no_warning(extractor, written):
    (path,) = (written / "ct").glob("*.nii.gz")
    assert not remarks(extractor, extractor(path))
    (case,) = read_manifest(written / "manifest.jsonl")
    assert not remarks(extractor, extractor.features([extractor.read.read_case(case)])[0])
    # The source in the manifest is sufficient.
    case["volume"] = {"path": str(written / "real.nii.gz")}
    assert not remarks(extractor, extractor.features([extractor.read.read_case(case)])[0])


@pytest.mark.parametrize("more", [None, data_record("ManifestCT", 5, synthetic=False)], ids=["unknown", "real"])
def test_unknown_or_real_training_data_give_no_warning(trained, written, tmp_path, more):
    content = read_checkpoint(trained[1])
    content["meta"].pop("training_data") if more is None else content["meta"]["training_data"].append(more)
    torch.save(content, tmp_path / "weights.pth")
    extractor = FeatureExtractor(trained[0], tmp_path / "weights.pth", "cpu")
    assert not remarks(extractor, extractor(written / "real.nii.gz"))
