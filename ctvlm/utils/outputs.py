"""Checks of output paths, so that a wrong one is reported before a long computation."""

from __future__ import annotations

import os
from pathlib import Path

from ctvlm.utils.errors import CTVLMError


class OutputPathError(CTVLMError):
    """A path to which a command cannot write. The message states the argument, what is there and what is expected."""


def check_out_folder(name: str, path: str | Path) -> None:
    """Check a folder that a command writes to and creates if it is missing.

    Args:
        name: the argument or config key, for the message.

    Raises:
        OutputPathError: the path or a parent is not a folder, or the folder is read-only.
    """
    _check_parents(name, path, Path(path).expanduser().absolute())


def check_out_file(name: str, path: str | Path) -> None:
    """Check a file that a command writes, see ``check_out_folder``.

    Raises:
        OutputPathError: the path is a folder, a parent is not a folder, or the folder is read-only.
    """
    file = Path(path).expanduser().absolute()
    if file.is_dir():
        raise OutputPathError(f"{name} {path}: found a folder; expected the name of a file")
    _check_parents(name, path, file.parent)


def _check_parents(name: str, path: str | Path, folder: Path) -> None:
    existing = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not existing.is_dir():
        found = "found a file" if existing == Path(path).expanduser().absolute() else f"{existing} is a file"
        raise OutputPathError(f"{name} {path}: {found}; expected a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputPathError(
            f"{name} {path}: the folder {existing} is read-only; expected a folder in which you may write"
        )
