"""Atomic file writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import ctvlm.utils.atomic
from ctvlm.utils import atomic_write

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
    done = subprocess.run([sys.executable, "-c", KILLED, ctvlm.utils.atomic.__file__, str(path)], timeout=60)
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
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "a.bin") as part:
        part.write_text("new")
    assert victim.read_text() == "kept" and (tmp_path / ".part_known_a.bin").is_symlink()
