"""Which code runs: the version of ctvlm, its git commit, and whether it has been changed."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ctvlm.version import __version__

_SECONDS = 10


@cache
def code_version() -> dict[str, Any]:
    """``version`` of ctvlm, its git ``commit``, and ``modified``: whether the clone has changes without a commit.

    The commit is that of the clone that contains the running code, or that of ``pip install git+URL``. Both are None
    where they are unknown: in a wheel, without git, or if the code is a part of another repository.
    """
    package = Path(__file__).resolve().parents[1]
    commit, modified = _clone(package)
    return dict(version=__version__, commit=commit or _installed_commit(package), modified=modified)


def _clone(package: Path) -> tuple[str | None, bool | None]:
    """Commit of the clone of ctvlm with this package, and whether its code was changed."""
    top = package.parent
    setup = top / "setup.cfg"
    # Not the repository of a user that contains this environment, or a copy of the package.
    if not (top / ".git").exists() or not setup.is_file() or "\nname = ctvlm\n" not in setup.read_text("utf-8"):
        return None, None
    commit = _git(top, "rev-parse", "HEAD")
    if commit is None or _git(top, "ls-files", "--error-unmatch", f"{package.name}/version.py") is None:
        return None, None
    changes = _git(top, "status", "--porcelain", "--", package.name, "tools", "projects")
    return commit, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of git; None if it fails. The variables of a surrounding git command or hook are not passed on."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    # Do not write the index, and start no file monitor.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, env=environment, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def _installed_commit(package: Path) -> str | None:
    """The commit that pip has recorded (PEP 610)."""
    try:
        installed = metadata.distribution("ctvlm")
        content = json.loads(installed.read_text("direct_url.json") or "{}")
        if not Path(str(installed.locate_file(package.name))).samefile(package):
            return None
        return content.get("vcs_info", {}).get("commit_id")
    except (metadata.PackageNotFoundError, OSError, ValueError, AttributeError):
        return None
