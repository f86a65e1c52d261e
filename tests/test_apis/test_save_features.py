"""Saved features equal those of the extractor, in every format, with any number of workers, and are resumable."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from ctvlm.apis import FeatureExtractor, RunOptions
from ctvlm.utils import CTVLMError


@pytest.fixture(scope="module")
def extract(model):
    return FeatureExtractor(model)


@pytest.fixture
def folder(phantom_files, tmp_path):
    return shutil.copytree(phantom_files, tmp_path / "ct")


def states(summary) -> dict[str, str]:
    return {outcome.case_id: outcome.state for outcome in summary.outcomes}


def test_files_equal_the_features(extract, folder, tmp_path):
    safetensors_numpy = pytest.importorskip("safetensors.numpy")
    expected = extract(folder / "p1" / "ct.nii.gz")
    extract.save(folder, tmp_path / "npz", patches=True)
    extract.save(folder, tmp_path / "st", format="safetensors", patches=True)
    with np.load(tmp_path / "npz" / "p1.npz", allow_pickle=False) as data:
        arrays = {name: data[name] for name in data if name != "record"}
        record = json.loads(str(data["record"]))
    assert record["case_id"] == "p1" and record["input"] == str(folder / "p1" / "ct.nii.gz")
    assert record["region_names"] == expected.region_names and len(record["model"]) == 64
    for name, array in arrays.items():
        np.testing.assert_allclose(array, np.asarray(getattr(expected, name)), rtol=1e-4, atol=1e-5, err_msg=name)
    other = safetensors_numpy.load_file(tmp_path / "st" / "p1.safetensors")
    assert set(other) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(other[name], array)


def test_parquet_has_a_row_per_volume_and_region(extract, folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'ctvlm[parquet]'")
    extract.save(folder, tmp_path / "features.parquet", mask_source="thorax_abdomen_20")
    rows = parquet.read_table(tmp_path / "features.parquet").to_pylist()
    for name in ("p0", "p1"):
        features = extract(folder / name / "ct.nii.gz", folder / name / "seg.nii.gz", "thorax_abdomen_20")
        found = {row["name"]: row["embedding"] for row in rows if row["case_id"] == name}
        assert list(found) == ["volume", *(n for n, m in zip(features.region_names, features.region_mask) if m)]
        np.testing.assert_allclose(found["volume"], features.volume, atol=1e-5)
        np.testing.assert_allclose(found["liver"], features.regions[11], atol=1e-5)
    assert rows[0]["input"] == str(folder / "p0" / "ct.nii.gz")
    with pytest.raises(ValueError, match="patches=True"):
        extract.save(folder, tmp_path / "features.parquet", patches=True)


def test_only_changed_cases_are_processed_again(extract, model, folder, tmp_path):
    out = tmp_path / "out"
    assert states(extract.save(folder, out)) == {"p0": "done", "p1": "done"}
    for name in ("ct", "seg"):  # another content
        shutil.copy(folder / "p1" / f"{name}.nii.gz", folder / "p0" / f"{name}.nii.gz")
    assert states(extract.save(folder, out)) == {"p0": "done", "p1": "kept"}
    (out / "p1.npz").write_bytes((out / "p1.npz").read_bytes()[:500])  # damaged
    assert states(extract.save(folder, out)) == {"p0": "kept", "p1": "done"}
    assert states(extract.save(folder, out, patches=True)) == {"p0": "done", "p1": "done"}
    assert states(extract.save(folder, out, mask_source="thorax_abdomen_20")) == {"p0": "done", "p1": "done"}
    assert not list(out.rglob(".part*"))
    extract.save(folder, out)
    bias = next(model.space.parameters())
    with torch.no_grad():
        bias += 0.01
    try:
        assert states(extract.save(folder, out)) == {"p0": "done", "p1": "done"}
    finally:
        with torch.no_grad():
            bias -= 0.01


def test_failed_case_is_reported_and_written(extract, folder, tmp_path):
    (folder / "p0" / "ct.nii.gz").write_bytes(b"damaged")
    summary = extract.save(folder, tmp_path / "out")
    assert states(summary) == {"p0": "failed", "p1": "done"} and summary.exit_code == 1
    reason = json.loads((tmp_path / "out" / "p0.failed.json").read_text())["reason"]
    assert "p0/ct.nii.gz" in reason and summary.to_dict()["failed"] == 1
    shutil.copy(folder / "p1" / "ct.nii.gz", folder / "p0" / "ct.nii.gz")
    assert extract.save(folder, tmp_path / "out").exit_code == 0
    assert not (tmp_path / "out" / "p0.failed.json").exists()


def test_last_shard_writes_the_table(extract, folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'ctvlm[parquet]'")
    table = tmp_path / "features.parquet"
    first = extract.save(folder, table, run=RunOptions(shard=(0, 2)))
    assert states(first) == {"p0": "done"} and first.unfinished == 1 and not table.exists()
    last = extract.save(folder, table, run=RunOptions(shard=(1, 2)))
    assert states(last) == {"p1": "done"} and last.unfinished == 0
    assert set(parquet.read_table(table).column("case_id").to_pylist()) == {"p0", "p1"}


def test_case_ids_are_valid_paths(extract, folder, tmp_path):
    deep = folder / "a b" / "c#ü"
    deep.mkdir(parents=True)
    shutil.move(folder / "p0" / "ct.nii.gz", deep / "ct.nii.gz")
    shutil.rmtree(folder / "p0")
    summary = extract.save(folder, tmp_path / "out")
    assert states(summary)["a b/c#ü"] == "done"
    assert all(tmp_path / "out" in path.parents for path in map(type(folder), [o.path for o in summary.outcomes]))
    assert len(list((tmp_path / "out" / "a b").iterdir())) == 1


def test_built_model_has_no_workers(extract, folder, tmp_path):
    with pytest.raises(CTVLMError, match="instead of a module"):
        extract.save(folder, tmp_path / "out", run=RunOptions(workers=2))


@pytest.mark.slow
def test_workers_and_cluster_write_the_same_files(trained, folder, tmp_path):
    extract = FeatureExtractor(trained[0], trained[1], "cpu")
    options = dict(here=RunOptions(batch_size=1), pool=RunOptions(batch_size=1, workers=2))
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'ctvlm[dask]'")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        options["dask"] = RunOptions(batch_size=1, scheduler=cluster.scheduler_address)
        for name, run in options.items():
            summary = extract.save(folder, tmp_path / name, run=run)
            assert states(summary) == {"p0": "done", "p1": "done"}, name
    for case in ("p0", "p1"):
        with np.load(tmp_path / "here" / f"{case}.npz") as here:
            for name in ("pool", "dask"):
                with np.load(tmp_path / name / f"{case}.npz") as there:
                    np.testing.assert_allclose(here["volume"], there["volume"], atol=1e-5)
                    assert str(here["record"]) == str(there["record"])
