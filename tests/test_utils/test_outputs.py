"""Output paths are checked before the work starts."""

from __future__ import annotations

import os

import pytest

from ctvlm.utils import OutputPathError, check_out_file, check_out_folder


def test_accepts_what_can_be_written(tmp_path):
    (tmp_path / "file.csv").write_text("")
    check_out_file("--out", tmp_path / "file.csv")
    check_out_file("--out", tmp_path / "new" / "folder" / "file.csv")
    check_out_folder("--out", tmp_path)
    check_out_folder("--out", tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def test_refuses_a_file_as_a_folder_and_a_folder_as_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OutputPathError, match=f"^--work-dir {file}: found a file; expected a folder$"):
        check_out_folder("--work-dir", file)
    with pytest.raises(OutputPathError, match=f"^--out {file}/a/b.csv: {file} is a file; expected a folder$"):
        check_out_file("--out", file / "a" / "b.csv")
    with pytest.raises(OutputPathError, match=f"^--out {tmp_path}: found a folder; expected the name of a file$"):
        check_out_file("--out", tmp_path)


def test_refuses_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write everywhere
    with pytest.raises(OutputPathError, match=f"the folder {tmp_path} is read-only"):
        check_out_folder("--out", tmp_path / "new")


def test_refuses_a_broken_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    with pytest.raises(OutputPathError, match="link"):
        check_out_folder("--out", tmp_path / "link")
