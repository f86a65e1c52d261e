"""Paths of a manifest: resolved against its folder, and checked to stay in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ctvlm.utils import CTVLMError
from ctvlm.utils.terminal_text import printable
from ctvlm.utils.worker_text import worker_message
from ctvlm.volume import files
from ctvlm.volume.detached import may_name_files


class ManifestError(CTVLMError, ValueError):
    """Invalid manifest; the message contains the file and, if known, the line. It is one line, whatever the texts."""

    def __init__(self, message: object) -> None:
        super().__init__(printable(worker_message(str(message))))


class ManifestPaths:
    """Resolves the paths of one manifest.

    A manifest from others can name any file that you can read, so its files must be in its folder, in one of
    ``data_roots``, or in a folder of the environment variable CTVLM_DATA_ROOTS. Links are followed before this check.

    Args:
        root: folder of the manifest: path or URL.
        allow_outside: accept any path.
        data_roots: further folders or URLs.
    """

    def __init__(self, root: str, allow_outside: bool = False, data_roots: Iterable[str | Path] = ()) -> None:
        self.root, self.allow_outside = root, allow_outside
        self._real_folders: dict[str, str] = {}
        self._roots = [self._real(path) for path in (root, *map(files.join, map(str, data_roots)), *files.data_roots())]

    def resolve(self, raw: Any, name: str) -> dict[str, Any]:
        """``path``, and ``allow_outside`` if detached data of this file may be anywhere.

        Raises:
            ManifestError: not a path, or outside the allowed folders.
        """
        if not isinstance(raw, str) or not raw:
            raise ManifestError(f"path of {name}: found {str(raw)[:80]!r}; expected a text")
        if "\0" in raw:
            raise ManifestError(f"path of {name}: found {raw[:80]!r}, which contains a null character")
        path = files.join(self.root, raw)
        if self.allow_outside:
            return {"path": path, **({"allow_outside": True} if may_name_files(path) else {})}
        if not self._is_allowed(path):
            raise ManifestError(
                f"path of {name}: {raw!r} is outside the manifest's folder {self.root}. If you trust the manifest, add "
                "the folder of the data to the environment variable CTVLM_DATA_ROOTS, or use allow_outside=True "
                "(--allow-outside of a tool)"
            )
        return {"path": path}

    def _is_allowed(self, path: str) -> bool:
        if files.is_url(path):
            # Servers decode %2e, and in a chain (a::b) another URL is opened.
            plain = not {".", ".."} & set(unquote(path).split("/"))
            inside = [r for r in self._roots if files.is_url(r) and f"{path}/".startswith(f"{r.rstrip('/')}/")]
            return plain and any(path.count("::") == r.count("::") for r in inside)
        return self._is_inside(self._real(path)) and all(map(self._is_inside, _linked_slices(path)))

    def _is_inside(self, real: str) -> bool:
        return any(real == r or real.startswith(os.path.join(r, "")) for r in self._roots if not files.is_url(r))

    def _real(self, path: str) -> str:
        """Path without links. The folders of earlier paths are not looked up again, for large data sets on NFS."""
        if files.is_url(path):
            return path
        if os.path.islink(path):
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        return os.path.join(self._real_folders[folder], name)


def _linked_slices(path: str) -> list[str]:
    """Targets of the links in a DICOM folder."""
    try:
        with os.scandir(path) as entries:
            return [os.path.realpath(entry.path) for entry in entries if entry.is_symlink()]
    except OSError:  # a file, which is the usual case, or missing
        return []


def outside_folder(cases: Iterable[dict], path: str | Path) -> str | None:
    """Folder of the files that a manifest at ``path`` may not name without permission; None if there are none."""
    paths, outside = ManifestPaths(files.parent(path)), []
    for name in (name for case in cases for name in _names(case)):
        try:
            paths.resolve(name, "case")
        except ManifestError:
            outside.append(files.parent(files.join(paths.root, name)))
    local = [folder for folder in outside if not files.is_url(folder)]
    return os.path.commonpath(local) if local else next(iter(outside), None)


def _names(case: dict) -> Iterator[str]:
    """Files of a case before or after ``read_manifest``."""
    for entry in (case["volume"], case.get("region_map"), *(case.get("lesion_masks") or ())):
        if isinstance(entry, dict):
            yield from entry.get("files", {}).values() if "files" in entry else (entry["path"],)
        elif entry:
            yield entry
