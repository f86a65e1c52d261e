"""A store equals LoadCT and ResampleCT, resumes after an interruption, and reports failed cases."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest

from ctvlm.datasets import ManifestCT, preprocess as module, read_manifest
from ctvlm.datasets.preprocess import Recipe, folder_of, preprocess_case
from ctvlm.datasets.transforms import LoadCT, LoadStore, PackCTInputs, ResampleCT
from ctvlm.volume import CTReadError

pytest.importorskip("blosc2", reason="the store needs Blosc2: pip install 'ctvlm[store]'")
SPACING = (4.0, 2.5, 2.5)


@pytest.fixture(scope="module")
def tool():
    path = Path(__file__).resolve().parents[2] / "tools" / "preprocess.py"
    spec = importlib.util.spec_from_file_location("preprocess_tool", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def run(tool, manifest, out, *options) -> int:
    return tool.main([str(manifest), str(out), "--spacing", *map(str, SPACING), *options])


def printed(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_store_equals_pipeline(tool, case_folder, tmp_path, capsys):
    assert run(tool, case_folder / "cases.jsonl", tmp_path / "store") == 0
    assert "3 done, 0 kept, 0 failed" in printed(capsys)
    cases = read_manifest(case_folder / "cases.jsonl")
    stored = read_manifest(tmp_path / "store" / "manifest.jsonl")
    assert [c["case_id"] for c in stored] == [c["case_id"] for c in cases]
    for before, after in zip(cases, stored):
        wanted = ResampleCT(spacing=SPACING, crop_to_body=True)(LoadCT()(before))
        for load in (LoadStore(), LoadCT()):
            got = load(after)
            for key in ("volume", "region_map", "lesion_map"):
                assert np.array_equal(got[key], wanted[key]), (key, type(load).__name__)
            assert got["volume"].dtype == np.int16 and np.allclose(got["affine"], wanted["affine"])
        for key in ("patient_id", "split", "report", "cot", "labels"):
            assert after[key] == before[key]
        assert after["lesion_masks"][0]["name"] == "liver cyst" and after["lesion_masks"][0]["id"] == 1
    record = json.loads((tmp_path / "store" / "cases" / "p0" / "case.json").read_text())
    assert record["recipe"]["spacing"] == list(SPACING) and len(record["arrays"]["volume"]["sha256"]) == 64


def test_store_is_loaded_by_data_set(tool, case_folder, tmp_path):
    run(tool, case_folder / "cases.jsonl", tmp_path / "store")
    pipeline = [dict(type="LoadStore", window=(4, 6, 8)), dict(type="PackCTInputs")]
    data = ManifestCT(str(tmp_path / "store" / "manifest.jsonl"), split="train", pipeline=pipeline, cache=True)
    shapes = {tuple(data[i]["inputs"]["volume"].shape) for i in range(2) for _ in range(2)}
    assert shapes == {(1, 4, 6, 8)}


def test_windows_equal_volume_and_are_padded_with_air(tool, case_folder, tmp_path):
    run(tool, case_folder / "cases.jsonl", tmp_path / "store")
    case = read_manifest(tmp_path / "store" / "manifest.jsonl")[0]
    whole = LoadStore()(case)
    for _ in range(5):
        got = LoadStore(window=(3, 6, 100))(case)
        offset = np.linalg.inv(whole["affine"]) @ got["affine"][:, 3]
        start = np.rint(offset[:3][::-1]).astype(int)
        box = tuple(slice(s, s + n) for s, n in zip(start, (3, 6, 100)))
        width = whole["volume"].shape[2]
        assert np.array_equal(got["volume"][..., :width], whole["volume"][box])
        assert np.array_equal(got["region_map"][..., :width], whole["region_map"][box])
        assert (got["volume"][..., width:] == -1024).all() and not got["region_map"][..., width:].any()
        PackCTInputs()(got)
    with pytest.raises(ValueError, match=r"window.*\(3, 6\)"):
        LoadStore(window=(3, 6))
    with pytest.raises(CTReadError, match="LoadCT"):
        LoadStore()({**case, "volume": {"path": "a.nii.gz"}})


def test_interrupted_run_resumes(tool, case_folder, tmp_path, capsys, monkeypatch):
    out, writes = tmp_path / "store", []
    write_together = module.files.write_together

    def interrupted_write(folder, contents, last):
        writes.append(folder)
        if len(writes) == 2:  # between two renames of the second case
            module.files.write_bytes(module.files.join(folder, "volume.b2nd"), contents["volume.b2nd"])
            raise KeyboardInterrupt
        write_together(folder, contents, last)

    monkeypatch.setattr(module.files, "write_together", interrupted_write)
    with pytest.raises(KeyboardInterrupt):
        run(tool, case_folder / "cases.jsonl", out)
    monkeypatch.undo()
    assert sorted(p.parent.name for p in out.rglob("case.json")) == ["p0"] and not (out / "manifest.jsonl").exists()
    assert (out / "cases" / "p1" / "volume.b2nd").exists()
    first = (out / "cases" / "p0" / "volume.b2nd").stat().st_mtime_ns
    capsys.readouterr()
    assert run(tool, case_folder / "cases.jsonl", out) == 0
    assert "2 done, 1 kept, 0 failed" in printed(capsys)
    assert (out / "cases" / "p0" / "volume.b2nd").stat().st_mtime_ns == first
    assert len(read_manifest(out / "manifest.jsonl")) == 3


def test_changed_recipe_or_case_is_processed_again(case_folder, tmp_path):
    case = read_manifest(case_folder / "cases.jsonl")[1]
    recipe, out = Recipe(spacing=SPACING), str(tmp_path)
    kinds = [preprocess_case(case, out, recipe).state for _ in range(2)]
    kinds.append(preprocess_case(case, out, Recipe(shape=(4, 8, 8))).state)
    kinds.append(preprocess_case({**case, "labels": {}}, out, Recipe(shape=(4, 8, 8))).state)
    assert kinds == ["done", "kept", "done", "done"]


def test_last_shard_writes_manifest(tool, case_folder, tmp_path, capsys):
    manifest, out = case_folder / "cases.jsonl", tmp_path / "store"
    assert run(tool, manifest, out, "--shard", "1/2") == 0
    assert "1 done" in printed(capsys) and not (out / "manifest.jsonl").exists()
    assert run(tool, manifest, out, "--shard", "0/2") == 0
    assert "2 done" in printed(capsys) and len(read_manifest(out / "manifest.jsonl")) == 3
    with pytest.raises(SystemExit):
        run(tool, manifest, out, "--shard", "2/2")


def test_records_are_checked_at_the_same_time(tool, case_folder, tmp_path, monkeypatch):
    """The requests to a remote store wait for its answers: one after the other, 10,000 cases take minutes."""
    run(tool, case_folder / "cases.jsonl", tmp_path / "store")
    wanted = (tmp_path / "store" / "manifest.jsonl").read_bytes()
    cases = read_manifest(case_folder / "cases.jsonl")
    all_read, read = threading.Barrier(len(cases)), module.read_record

    def read_together(*args):
        all_read.wait(timeout=240)
        return read(*args)

    monkeypatch.setattr(module, "read_record", read_together)
    assert tool.finish(cases, str(tmp_path / "store"), Recipe(spacing=SPACING)) == (len(cases), [])
    assert (tmp_path / "store" / "manifest.jsonl").read_bytes() == wanted


def test_unreadable_case_is_reported(tool, case_folder, tmp_path, capsys):
    whole = (case_folder / "p1" / "ct.nii.gz").read_bytes()
    (case_folder / "p1" / "ct.nii.gz").write_bytes(whole[:500])
    assert run(tool, case_folder / "cases.jsonl", tmp_path / "store") == 1
    out = capsys.readouterr().out
    assert "2 done, 0 kept, 1 failed" in out and "p1" in out
    assert [c["case_id"] for c in read_manifest(tmp_path / "store" / "manifest.jsonl")] == ["p0", "p2"]
    (case_folder / "p1" / "ct.nii.gz").write_bytes(whole)
    assert run(tool, case_folder / "cases.jsonl", tmp_path / "store") == 0
    assert len(read_manifest(tmp_path / "store" / "manifest.jsonl")) == 3


def test_text_is_measured_before_resampling(tool, case_folder, tmp_path):
    run(tool, case_folder / "cases.jsonl", tmp_path / "store", "--measure-text")
    cases = read_manifest(tmp_path / "store" / "manifest.jsonl")
    assert len(cases[0]["cot"]) > 2 and cases[0]["report"]["impression"]
    assert cases[1]["report"]["impression"] == "Liver cyst."


def test_manifest_and_store_at_fsspec_url(tool, case_folder, tmp_path):
    memory = fsspec.filesystem("memory")
    root = tmp_path.name
    memory.put(str(case_folder), f"/{root}/data", recursive=True)
    try:
        url = f"memory://{root}/data/cases.jsonl"
        assert run(tool, url, f"memory://{root}/store") == 0
        stored = read_manifest(f"memory://{root}/store/manifest.jsonl")
        assert stored[0]["volume"]["path"] == f"memory://{root}/store/cases/p0/volume.b2nd"
        assert '"path": "cases/p0/volume.b2nd"' in memory.cat_file(f"/{root}/store/manifest.jsonl").decode()
        wanted = ResampleCT(spacing=SPACING, crop_to_body=True)(LoadCT()(read_manifest(url)[0]))
        assert np.array_equal(LoadStore()(stored[0])["volume"], wanted["volume"])
        # A store can be moved, because its paths are relative.
        memory.get(f"/{root}/store", str(tmp_path / "copy"), recursive=True)
        here = read_manifest(tmp_path / "copy" / "manifest.jsonl")
        assert np.array_equal(LoadStore()(here[0])["region_map"], wanted["region_map"])
    finally:
        memory.rm(f"/{root}", recursive=True)


def test_every_download_is_compared_with_its_checksum(tool, case_folder, tmp_path):
    memory = fsspec.filesystem("memory")
    root = tmp_path.name
    memory.put(str(case_folder), f"/{root}/data", recursive=True)
    try:
        assert run(tool, f"memory://{root}/data/cases.jsonl", f"memory://{root}/store") == 0
        case = read_manifest(f"memory://{root}/store/manifest.jsonl")[0]
        LoadStore()(case)
        place = f"/{root}/store/cases/p0/volume.b2nd"
        content = bytearray(memory.cat_file(place))
        content[len(content) // 2] ^= 1
        memory.pipe_file(place, bytes(content))
        with pytest.raises(CTReadError, match="sha256"):
            LoadStore()(case)
    finally:
        memory.rm(f"/{root}", recursive=True)


@pytest.mark.parametrize("case_id", ["a/b:c d", "x" * 300, "..", "été", ".hidden", "a "])
def test_case_folders_are_valid_and_unique(case_id, tmp_path):
    folder = Path(folder_of(str(tmp_path), case_id))
    assert folder.parent == tmp_path / "cases" and len(folder.name) < 130
    folder.mkdir(parents=True)
    assert folder_of(str(tmp_path), case_id + "2") != str(folder)


def copies(case_folder: Path, count: int) -> Path:
    """Write a manifest of ``count`` patients, for parallel runs."""
    case = json.loads((case_folder / "cases.jsonl").read_text().splitlines()[1])
    lines = [json.dumps({**case, "case_id": f"c{i}", "patient_id": f"c{i}"}) for i in range(count)]
    (case_folder / "many.jsonl").write_text("\n".join(lines))
    return case_folder / "many.jsonl"


@pytest.mark.slow
def test_two_processes(tool, case_folder, tmp_path):
    assert run(tool, copies(case_folder, 4), tmp_path / "store", "--workers", "2") == 0
    assert len(read_manifest(tmp_path / "store" / "manifest.jsonl")) == 4


@pytest.mark.slow
def test_cluster_with_killed_worker(tool, case_folder, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'ctvlm[dask]'")
    manifest, out = copies(case_folder, 12), tmp_path / "store"
    options = dict(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0)
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        victim, pid = next(iter(client.run(os.getpid).items()))
        started = tmp_path / "started"

        def work_forever():
            def never_end(case, **kwargs):
                started.touch()
                time.sleep(600)

            importlib.import_module("ctvlm.datasets.preprocess").preprocess_case = never_end

        client.run(work_forever, workers=[victim])
        codes = []
        address = cluster.scheduler_address
        thread = threading.Thread(target=lambda: codes.append(run(tool, manifest, out, "--scheduler", address)))
        thread.start()
        end = time.monotonic() + 240
        while not started.exists() and time.monotonic() < end:
            time.sleep(0.01)
        assert started.exists(), "the worker was not given a case"
        os.kill(pid, signal.SIGKILL)
        thread.join(900)
        assert codes == [0]
        assert pid not in client.run(os.getpid).values()
    stored = read_manifest(out / "manifest.jsonl")
    assert len(stored) == 12
    first = LoadStore()(stored[0])["volume"]
    assert all(np.array_equal(LoadStore()(case)["volume"], first) for case in stored)


def test_store_can_be_moved(tool, case_folder, tmp_path):
    run(tool, case_folder / "cases.jsonl", tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert LoadStore()(read_manifest(tmp_path / "b" / "manifest.jsonl")[0])["volume"].size
