"""A second run of preprocess notices replaced sources and damaged results, and removes what a killed run left."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from ctvlm.datasets import preprocess as module, read_manifest
from ctvlm.datasets.preprocess import Recipe, preprocess_case, read_record
from ctvlm.utils import WriteError
from ctvlm.volume import read_ct, write_nifti
from tests.faults import files_of, limited_files

pytest.importorskip("blosc2", reason="the store needs Blosc2: pip install 'ctvlm[store]'")
RECIPE = Recipe(shape=(8, 16, 16))


@pytest.fixture
def stored(case_folder, tmp_path):
    """A stored case: its manifest entry, the store, and its folder in the store."""
    out = str(tmp_path / "store")
    case = read_manifest(case_folder / "cases.jsonl")[1]
    assert preprocess_case(case, out, RECIPE).state == "done"
    return case, out, tmp_path / "store" / "cases" / "p1"


def replace_ct(case: dict) -> None:
    """Other voxels, in a file of the same size and time."""
    path = Path(case["volume"]["path"])
    status, ct = path.stat(), read_ct(path)
    write_nifti(ct.with_array(ct.array + 1), path)
    data = path.read_bytes()
    path.write_bytes(data + bytes(max(0, status.st_size - len(data))))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip(folder: Path) -> None:
    data = bytearray((folder / "volume.b2nd").read_bytes())
    data[len(data) // 2] ^= 4
    (folder / "volume.b2nd").write_bytes(data)


def truncate(folder: Path) -> None:
    (folder / "region_map.b2nd").write_bytes((folder / "region_map.b2nd").read_bytes()[:-9])


def swap(folder: Path) -> None:
    (folder / "lesion_map.b2nd").rename(folder / "a")
    (folder / "region_map.b2nd").rename(folder / "lesion_map.b2nd")
    (folder / "a").rename(folder / "region_map.b2nd")


def remove(folder: Path) -> None:
    (folder / "lesion_map.b2nd").unlink()


def edit_record(folder: Path) -> None:
    record = json.loads((folder / "case.json").read_text())
    record["line"]["report"] = dict(impression="No cyst.")
    (folder / "case.json").write_text(json.dumps(record))


@pytest.mark.parametrize("damage", [flip, truncate, swap, remove, edit_record])
def test_damaged_results_are_written_again(stored, damage):
    case, out, folder = stored
    wanted = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert preprocess_case(case, out, RECIPE).state == "kept"
    damage(folder)
    outcome = preprocess_case(case, out, RECIPE)
    assert outcome.state == "done" and (damage is edit_record or "damaged" in outcome.note)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == wanted
    assert preprocess_case(case, out, RECIPE).state == "kept"


@pytest.mark.parametrize("kind", ["volume", "region_map", "lesion_masks"])
def test_a_replaced_source_is_processed_again(stored, kind):
    case, out, _ = stored
    path = Path((case[kind][0] if kind == "lesion_masks" else case[kind])["path"])
    later = path.stat().st_mtime + 10  # some file systems keep whole seconds only
    path.write_bytes(path.read_bytes())
    os.utime(path, (later, later))
    assert preprocess_case(case, out, RECIPE).state == "done"


def test_sources_are_compared_by_content_on_request(stored):
    case, out, _ = stored
    path = Path(case["volume"]["path"])
    # Without checksums of the first run, the first comparison writes the case again.
    states = [preprocess_case(case, out, RECIPE, compare_content=True).state for _ in range(2)]
    assert states == ["done", "kept"]
    path.write_bytes(path.read_bytes())
    assert preprocess_case(case, out, RECIPE, compare_content=True).state == "kept"
    assert preprocess_case(case, out, RECIPE).state == "kept", "the new time of change is recorded"
    replace_ct(case)
    assert preprocess_case(case, out, RECIPE, compare_content=True).state == "done"


def test_detached_data_and_slices_are_sources(tmp_path):
    from ctvlm.datasets.source_state import source_state

    (tmp_path / "a.mhd").write_text("ElementDataFile = a.raw\n")
    (tmp_path / "b.hdr").write_bytes(b"")
    (tmp_path / "slices").mkdir()
    for name in ("a.raw", "b.img", "slices/1.dcm", "slices/2.dcm"):
        (tmp_path / name).write_bytes(b"1")
    lesions = [dict(path=str(tmp_path / "b.hdr"))]
    case = dict(volume=dict(path=str(tmp_path / "a.mhd")), region_map=None, lesion_masks=lesions)
    names = {str(Path(name).relative_to(tmp_path)) for name in source_state(case)}
    assert names == {"a.mhd", "a.raw", "b.hdr", "b.img"}
    case = dict(volume=dict(path=str(tmp_path / "slices")), region_map=None, lesion_masks=[])
    assert [Path(name).name for name in source_state(case)] == ["1.dcm", "2.dcm"]


def test_leftovers_of_a_killed_run_are_removed(stored):
    case, out, folder = stored
    shutil.copy(folder / "volume.b2nd", folder / ".part_0123456789abcdef_volume.b2nd")
    (folder / "case.json").unlink()
    assert preprocess_case(case, out, RECIPE).state == "done"
    assert not list(folder.glob(".part_*"))
    for name, age in ((".part_a", 0), (".part_b", 7200)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    module.files.remove_parts(folder, seconds=3600)
    assert [path.name for path in folder.glob(".part_*")] == [".part_a"]


@pytest.mark.parametrize("error", [TypeError("a bug"), MemoryError(), RecursionError("deep"), ValueError("no")])
def test_any_error_of_a_case_is_a_failed_case(case_folder, tmp_path, monkeypatch, error):
    def fail(case, recipe):
        raise error

    monkeypatch.setattr(module, "_load", fail)
    case = read_manifest(case_folder / "cases.jsonl")[1]
    outcome = preprocess_case(case, str(tmp_path / "store"), RECIPE)
    assert outcome.state == "failed" and outcome.note
    record = read_record(str(tmp_path / "store"), "p1", "failed.json")
    assert ("traceback" in record) == (not isinstance(error, ValueError))


def test_an_unknown_source_of_a_region_map_fails_one_case(case_folder, tmp_path):
    case = read_manifest(case_folder / "cases.jsonl")[1]
    case["region_map"]["source"] = "totalsegmentator_v9"
    outcome = preprocess_case(case, str(tmp_path / "store"), RECIPE)
    assert outcome.state == "failed" and "totalsegmentator_v9" in outcome.note and "seg.nii.gz" in outcome.note


def test_a_full_disk_ends_the_run_and_keeps_the_earlier_result(stored):
    case, out, folder = stored
    before = files_of(folder)
    size = (folder / "volume.b2nd").stat().st_size
    with limited_files(size // 2), pytest.raises(WriteError, match=r"store/cases/p1/\S+: File too large"):
        preprocess_case({**case, "extra": {"edited": True}}, out, RECIPE)
    assert files_of(folder) == before


def test_writes_are_flushed_before_the_rename(tmp_path, monkeypatch):
    done, replace, fsync = [], os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: done.append("flush") or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda a, b: done.append("rename") or replace(a, b))
    module.files.write_bytes(tmp_path / "a", np.zeros(4).tobytes())
    assert done[:2] == ["flush", "rename"]


def test_an_unknown_file_system_is_a_failed_case(case_folder, tmp_path):
    case = read_manifest(case_folder / "cases.jsonl")[1]
    case["volume"] = {"path": "nowhere://bucket/ct.nii.gz"}
    outcome = preprocess_case(case, str(tmp_path / "store"), RECIPE)
    assert outcome.state == "failed" and "nowhere" in outcome.note


def test_sources_are_hashed_once(stored, monkeypatch):
    import ctvlm.datasets.source_state as state

    case, out, folder = stored
    hashed, sha256_of = [], state.sha256_of
    monkeypatch.setattr(state, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    assert preprocess_case(case, out, RECIPE, compare_content=True).state == "done"
    assert preprocess_case(case, out, RECIPE, compare_content=True).state == "kept"
    assert len(hashed) == 2 * len(set(hashed))
