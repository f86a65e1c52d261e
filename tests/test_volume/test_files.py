"""File functions for paths and URLs."""

from __future__ import annotations

import contextlib

import fsspec
import numpy as np
import pytest

from ctvlm.volume import CTReadError, CTVolume, files, read_ct, write_nifti


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    if request.param == "local":
        yield str(tmp_path)
        return
    url = f"memory://{tmp_path.name}"
    yield url
    with contextlib.suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def test_write_read_join_and_remove(root):
    path = files.join(root, "a", "b.bin")
    assert not files.exists(path)
    with pytest.raises(FileNotFoundError):
        files.read_bytes(path)
    files.write_bytes(path, b"one")
    files.write_bytes(path, b"two")
    assert files.read_bytes(path) == b"two" and files.exists(path)
    assert files.parent(path) == files.join(root, "a")
    assert files.join(root, "x", "../a/b.bin") == path
    assert files.relative(path, root) == "a/b.bin"
    files.remove(path)
    files.remove(path)
    assert not files.exists(path)


def test_absolute_parts_replace_the_root():
    assert files.join("s3://bucket/x", "/data/a.nii") == "/data/a.nii"
    assert files.join("/data", "s3://bucket/a.nii") == "s3://bucket/a.nii"
    assert files.relative("s3://other/a.nii", "s3://bucket") == "s3://other/a.nii"
    assert files.relative("/data/a.nii", "s3://bucket") == "/data/a.nii"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_read_ct_from_a_url_and_errors_state_the_url(root, tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    write_nifti(CTVolume(hu, np.diag([1.0, 2.0, 3.0, 1.0])), tmp_path / "local.nii.gz")
    data = (tmp_path / "local.nii.gz").read_bytes()
    url = files.join(root, "scan.nii.gz")
    files.write_bytes(url, data)
    assert np.array_equal(read_ct(url).array, hu)
    files.write_bytes(url, data[: len(data) // 2])
    with pytest.raises(CTReadError) as error:
        read_ct(url)
    assert error.value.path == url
    with pytest.raises(FileNotFoundError):
        read_ct(files.join(root, "nothing.nii.gz"))
