"""The recorded commit is that of ctvlm, never that of a repository around it."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

import ctvlm
from ctvlm.utils import code_version as module
from ctvlm.version import __version__

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def copy_of_ctvlm(folder: Path) -> Path:
    """A clone with three files of ctvlm; returns the file of the module under test."""
    (folder / "ctvlm" / "utils").mkdir(parents=True)
    package = Path(ctvlm.__file__).parent
    for name in ("version.py", "utils/code_version.py"):
        shutil.copy(package / name, folder / "ctvlm" / name)
    shutil.copy(package.parent / "setup.cfg", folder)
    return folder / "ctvlm" / "utils" / "code_version.py"


def commit(folder, *paths):
    git(folder, "init", "-q")
    git(folder, "add", *(paths or ["."]))
    git(folder, "commit", "-q", "-m", "one")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def version(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 300)  # a busy machine may pause git

    def call(file):
        monkeypatch.setattr(module, "__file__", str(file))
        return module.code_version.__wrapped__()

    return call


@pytest.fixture
def not_installed(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(module.metadata, "distribution", missing)


def test_clone(tmp_path, monkeypatch, version, not_installed):
    file = copy_of_ctvlm(tmp_path / "clone")
    head = commit(tmp_path / "clone")
    # The current folder is another repository, and git's variables name it, as in a hook of git.
    other = tmp_path / "other"
    other.mkdir()
    (other / "a").touch()
    commit(other)
    monkeypatch.chdir(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    expected = dict(version=__version__, commit=head)
    assert version(file) == {**expected, "modified": False}
    (tmp_path / "clone" / "notes.txt").touch()
    assert version(file) == {**expected, "modified": False}
    (file.parent / "new.py").touch()
    assert version(file) == {**expected, "modified": True}
    (file.parent / "new.py").unlink()
    file.write_text(file.read_text() + "\n")
    assert version(file) == {**expected, "modified": True}


UNKNOWN = dict(version=__version__, commit=None, modified=None)


def test_package_in_the_repository_of_a_user(tmp_path, version, not_installed):
    file = copy_of_ctvlm(tmp_path / "venv" / "site-packages")
    commit(tmp_path)
    assert version(file) == UNKNOWN


def test_untracked_copy(tmp_path, version, not_installed):
    file = copy_of_ctvlm(tmp_path)
    commit(tmp_path, "setup.cfg")
    assert version(file) == UNKNOWN


def test_own_project_with_a_copy(tmp_path, version, not_installed):
    file = copy_of_ctvlm(tmp_path)
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = mine\n")
    commit(tmp_path)
    assert version(file) == UNKNOWN


def test_without_git(tmp_path, monkeypatch, version, not_installed):
    file = copy_of_ctvlm(tmp_path)
    commit(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert version(file) == UNKNOWN


@pytest.mark.parametrize("text", [None, "[]", "{", '{"vcs_info": {}}', '{"vcs_info": {"commit_id": "abc"}}'])
def test_installed_from_a_url(tmp_path, monkeypatch, version, text):
    file = copy_of_ctvlm(tmp_path / "site-packages")

    class Installed:
        def read_text(self, name):
            return text if name == "direct_url.json" else None

        def locate_file(self, name):
            return tmp_path / "site-packages" / name

    monkeypatch.setattr(module.metadata, "distribution", lambda name: Installed())
    found = json.loads(text)["vcs_info"].get("commit_id") if text and "vcs_info" in text else None
    assert version(file) == {**UNKNOWN, "commit": found}
    # Another ctvlm is installed than the one that runs.
    assert version(copy_of_ctvlm(tmp_path / "elsewhere")) == UNKNOWN
