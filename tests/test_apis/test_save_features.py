"""Saved features equal those of the extractor, in every format, with any number of workers, and are resumable."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch

from ctvlm.apis import FeatureExtractor, RunOptions, save_cases as save_module
from ctvlm.apis.fingerprint import model_checksum
from ctvlm.utils import CTVLMError
from ctvlm.volume import read_ct


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


def test_results_of_another_ct_are_not_replaced(extract, folder, tmp_path):
    out = tmp_path / "out"
    first, second = folder / "p0" / "ct.nii.gz", folder / "p1" / "ct.nii.gz"
    assert states(extract.save(first, out)) == {"ct": "done"}
    written = (out / "ct.npz").read_bytes()
    with pytest.raises(CTVLMError, match=f"ct.npz: found the result of {first}; expected {second}"):
        extract.save(second, out)
    assert (out / "ct.npz").read_bytes() == written
    assert states(extract.save(first, out, patches=True)) == {"ct": "done"}
    volumes = [read_ct(file) for file in (first, second)]
    assert states(extract.save(volumes[0], out)) == {"volume": "done"}
    with pytest.raises(CTVLMError, match="volume.npz: found the result of sha256:"):
        extract.save(volumes[1], out)


def test_failure_removes_the_outdated_result(extract, folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'ctvlm[parquet]'")
    out, table = tmp_path / "out", tmp_path / "features.parquet"
    extract.save(folder, out)
    extract.save(folder, table)
    (folder / "p0" / "ct.nii.gz").write_bytes(b"damaged")
    assert states(extract.save(folder, out)) == {"p0": "failed", "p1": "kept"}
    assert sorted(path.name for path in out.iterdir()) == ["p0.failed.json", "p1.npz"]
    assert states(extract.save(folder, table)) == {"p0": "failed", "p1": "kept"}
    assert set(parquet.read_table(table).column("case_id").to_pylist()) == {"p1"}
    (folder / "p1" / "ct.nii.gz").write_bytes(b"damaged")
    assert extract.save(folder, table).count("failed") == 2 and not table.exists()


def test_result_of_a_missing_ct_is_kept(extract, folder, tmp_path):
    """A disk may be unavailable for a while."""
    files = [folder / name / "ct.nii.gz" for name in ("p0", "p1")]
    out = tmp_path / "out"
    assert extract.save(files, out).count("done") == 2
    files[0].rename(tmp_path / "elsewhere.nii.gz")
    assert states(extract.save(files, out)) == {"p0/ct": "failed", "p1/ct": "kept"}
    (tmp_path / "elsewhere.nii.gz").rename(files[0])
    assert extract.save(files, out).count("kept") == 2


def test_table_has_no_outdated_case_of_another_shard(extract, folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'ctvlm[parquet]'")
    table = tmp_path / "features.parquet"
    extract.save(folder, table)
    result = (tmp_path / "features.parquet.parts" / "p0.npz").read_bytes()
    (folder / "p0" / "ct.nii.gz").write_bytes(b"damaged")
    extract.save(folder, table, run=RunOptions(shard=(0, 2)))
    (tmp_path / "features.parquet.parts" / "p0.npz").write_bytes(result)
    assert extract.save(folder, table, run=RunOptions(shard=(1, 2))).unfinished == 0
    assert set(parquet.read_table(table).column("case_id").to_pylist()) == {"p1"}


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


def test_worker_opens_a_model_per_inferencer(monkeypatch):
    """A Dask worker that has opened a model for one task opens it again for another."""
    monkeypatch.setattr(save_module, "_OPENED", {})
    monkeypatch.setattr(save_module, "model_checksum", lambda inferencer: "a" * 64)
    seen = [
        save_module._in_worker([], partial(str, kind), lambda opened, chunk: opened, kind, "a" * 64)
        for kind in ("FeatureExtractor", "RegionSegmenter", "RegionSegmenter")
    ]
    assert seen == ["FeatureExtractor", "RegionSegmenter", "RegionSegmenter"]


def test_worker_refuses_other_weights(extract, monkeypatch):
    monkeypatch.setattr(save_module, "_OPENED", {})
    arguments = dict(reopen=lambda: extract, run=lambda opened, chunk: chunk, kind="FeatureExtractor")
    assert save_module._in_worker([1], **arguments, checksum=model_checksum(extract)) == [1]
    with pytest.raises(CTVLMError, match="expected bbbbbbbbbbbb: the files of the model"):
        save_module._in_worker([1], **arguments, checksum="b" * 64)


def test_one_chunk_runs_in_this_process(extract, folder, tmp_path, monkeypatch):
    def unexpected():
        raise AssertionError("the model was opened again")

    monkeypatch.setattr(save_module, "_reopen", lambda inferencer: unexpected)
    assert extract.save(folder, tmp_path / "out", run=RunOptions(workers=2)).count("done") == 2


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
