"""Atomic file writes."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

import ctvlm.utils.atomic
from ctvlm.utils import WriteError, append_text, atomic_write
from ctvlm.utils.atomic import write_error, write_together
from tests.faults import FailingCalls, files_of, limited_files

KILLED = """
import os, runpy, signal, sys
atomic_write = runpy.run_path(sys.argv[1])["atomic_write"]
with atomic_write(sys.argv[2]) as part:
    part.write_text("half of the new")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sync", [False, True])
def test_writes_into_new_folders_and_replaces(tmp_path, sync):
    path = tmp_path / "a" / "b" / "scan.nii.gz"
    for content in ("one", "two"):
        with atomic_write(path, sync) as part:
            assert part.parent == path.parent and part.name.endswith(".nii.gz") and part.name.startswith(".")
            part.write_text(content)
            assert content == "one" or path.read_text() == "one"
        assert path.read_text() == content
    assert names(path.parent) == ["scan.nii.gz"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_removes_the_part_and_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as part:
        part.write_text("new")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["a.bin"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, ctvlm.utils.atomic.__file__, str(path)], timeout=240)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    with atomic_write(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"


def test_two_writers_of_one_path_do_not_collide(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_write(path) as first:
        first.write_text("first")
        with atomic_write(path) as second:
            second.write_text("second")
        assert path.read_text() == "second" and first.read_text() == "first"
    assert path.read_text() == "first" and names(tmp_path) == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_file_mode_follows_the_umask_or_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    umask = os.umask(0o027)
    try:
        with atomic_write(path) as part:
            part.write_text("one")
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o604)
        with atomic_write(path) as part:
            part.write_text("two")
        assert path.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(umask)


def test_long_names(tmp_path):
    path = tmp_path / f"{'ä' * 120}.npz"
    with atomic_write(path) as part:
        part.write_text("x")
    assert names(tmp_path) == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="folders are flushed on POSIX systems")
def test_a_folder_that_cannot_be_flushed_is_not_an_error(tmp_path, monkeypatch):
    flush = os.fsync

    def refuse_folders(file):
        if os.path.samestat(os.fstat(file), tmp_path.stat()):
            raise OSError(22, "Invalid argument")
        flush(file)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    with atomic_write(tmp_path / "a.txt", sync=True) as part:
        part.write_text("x")
    assert names(tmp_path) == ["a.txt"]


def test_the_part_is_created_exclusively(tmp_path, monkeypatch):
    """A link with the name of the part, made by somebody else, is not followed."""
    monkeypatch.setattr(ctvlm.utils.atomic.secrets, "token_hex", lambda _: "known")
    victim = tmp_path / "victim.txt"
    victim.write_text("kept")
    (tmp_path / ".part_known_a.bin").symlink_to(victim)
    with pytest.raises(WriteError), atomic_write(tmp_path / "a.bin") as part:
        part.write_text("new")
    assert victim.read_text() == "kept" and (tmp_path / ".part_known_a.bin").is_symlink()


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX systems")
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    """The system writes a part of the data, then refuses the rest."""
    path = tmp_path / "a.bin"
    path.write_text("old")
    for write in (lambda part: part.write_bytes(bytes(5000)), lambda part: save_file({"x": np.zeros(2000)}, part)):
        error = pytest.raises(WriteError, match=f"^cannot write {path}: File too large$")
        with limited_files(1000), error as caught, atomic_write(path) as part:
            write(part)
        assert caught.value.errno == errno.EFBIG
        assert path.read_text() == "old" and names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("call", ["open", "fsync", "replace", "mkdir"])
def test_errors_of_the_system_name_the_file(tmp_path, monkeypatch, call):
    path = tmp_path / "folder" / "a.bin"
    if call != "mkdir":
        path.parent.mkdir()
    with monkeypatch.context() as patch:
        FailingCalls(patch, tmp_path, (call,), errno.EROFS)
        error = pytest.raises(WriteError, match=f"^cannot write {path}: Read-only file system")
        with error as caught, atomic_write(path, sync=True) as part:
            part.write_text("new")
    assert caught.value.errno == errno.EROFS and not any(path.parent.iterdir() if call != "mkdir" else [])


def test_errors_of_processes_keep_their_message(tmp_path):
    error = write_error(tmp_path / "a.bin", OSError(errno.ENOSPC, "No space left on device"))
    found = pickle.loads(pickle.dumps(error))  # noqa: S301  our own
    assert str(found) == str(error) == f"cannot write {tmp_path}/a.bin: No space left on device"


@pytest.mark.parametrize("limit", [None, 30, 6])
def test_files_of_a_folder_are_replaced_together(tmp_path, limit):
    old = {"a.txt": b"old", "index.json": b"old", "b.txt": b"old"}
    write_together(tmp_path, old, last="index.json")
    new = {"index.json": b"new", "a.txt": b"new", "b.txt": bytes(40)}
    if limit is None:
        write_together(tmp_path, new, last="index.json")
    else:
        with limited_files(limit), pytest.raises(WriteError, match="b.txt: File too large"):
            write_together(tmp_path, new, last="index.json")
    assert files_of(tmp_path) == (old if limit else new)


def test_a_parent_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "folder" / "a.bin"
    with pytest.raises(WriteError, match=rf"{path}: Not a directory"), atomic_write(path):
        pass


def test_errors_of_other_files_stay(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"other\.txt"), atomic_write(tmp_path / "a.bin"):
        (tmp_path / "other.txt").read_text()


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX systems")
def test_a_text_is_appended_completely_or_not_at_all(tmp_path):
    path = tmp_path / "log.json"
    append_text(path, "one\n")
    with limited_files(6), pytest.raises(WriteError, match=f"cannot write {path}: File too large"):
        append_text(path, "two\n")
    append_text(path, "three\n")
    assert path.read_text() == "one\nthree\n"
