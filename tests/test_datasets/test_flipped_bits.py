"""No file with one changed bit is read with other voxels or another geometry."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ctvlm.datasets import read_manifest
from ctvlm.datasets.preprocess import Recipe, preprocess_case
from ctvlm.volume import CTReadError, read_ct, read_label_map
from ctvlm.volume.store import StoredArray


def silent(path: Path, read, flips: int) -> int:
    """Number of files with one changed bit that are read with other content."""
    whole, wanted, rng, count = path.read_bytes(), read(path), random.Random(0), 0
    for _ in range(flips):
        data, bit = bytearray(whole), rng.randrange(8 * len(whole))
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            got = read(path)
        except CTReadError:
            continue
        count += not (np.array_equal(got.array, wanted.array) and np.array_equal(got.affine, wanted.affine))
    path.write_bytes(whole)
    return count


@pytest.mark.parametrize("flips", [40, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["ct", "seg"])
def test_gzip(case_folder, name, flips):
    read = read_ct if name == "ct" else read_label_map
    assert silent(case_folder / "p1" / f"{name}.nii.gz", read, flips) == 0


@pytest.mark.parametrize("flips", [40, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["volume", "region_map"])
def test_store(case_folder, tmp_path, name, flips):
    pytest.importorskip("blosc2", reason="the store needs Blosc2: pip install 'ctvlm[store]'")
    case = read_manifest(case_folder / "cases.jsonl")[1]
    preprocess_case(case, str(tmp_path / "store"), Recipe(shape=(16, 32, 32), crop_to_body=False))
    path = tmp_path / "store" / "cases" / "p1" / f"{name}.b2nd"
    assert silent(path, lambda p: StoredArray(p).read(), flips) == 0
    record = path.with_name("case.json")
    record.write_text(record.read_text().replace('"sha256": "', '"sha256": "0'))
    path.touch()
    with pytest.raises(CTReadError, match="case.json"):
        StoredArray(path)
    record.write_text("{")
    with pytest.raises(CTReadError, match="case.json"):
        StoredArray(path)


def test_a_stored_file_is_verified_once(case_folder, tmp_path, monkeypatch):
    pytest.importorskip("blosc2", reason="the store needs Blosc2: pip install 'ctvlm[store]'")
    import ctvlm.volume.checksums as module

    case = read_manifest(case_folder / "cases.jsonl")[1]
    preprocess_case(case, str(tmp_path / "store"), Recipe(shape=(16, 32, 32)))
    path = tmp_path / "store" / "cases" / "p1" / "volume.b2nd"
    read, sha256_of = [], module.sha256_of
    monkeypatch.setattr(module, "sha256_of", lambda p: read.append(p) or sha256_of(p))
    StoredArray(path), StoredArray(path)
    assert read == [path]
    path.write_bytes(path.read_bytes())  # may be another content
    StoredArray(path)
    assert read == [path, path]


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd"])
def test_compressed_voxels(case_folder, suffix):
    """ITK prints "Uncompress failed" and returns the damaged voxels. Text headers have no checksum."""
    ct = read_ct(case_folder / "p1" / "ct.nii.gz")
    path = case_folder / f"ct{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(ct.array), str(path), useCompression=True)
    data = path.with_suffix(".zraw") if suffix == ".mhd" else path
    whole = data.read_bytes()
    start = {".mha": whole.find(b"LOCAL\n") + 6, ".mhd": 0, ".nrrd": whole.find(b"\n\n") + 2}[suffix]
    wanted, rng = read_ct(path).array, random.Random(0)
    for _ in range(40):
        changed, bit = bytearray(whole), rng.randrange(8 * start, 8 * len(whole))
        changed[bit // 8] ^= 1 << bit % 8
        data.write_bytes(changed)
        try:
            assert np.array_equal(read_ct(path).array, wanted)
        except CTReadError as error:
            assert error.path == str(path)
    data.write_bytes(whole[:-40])
    with pytest.raises(CTReadError, match="incomplete"):
        read_ct(path)
