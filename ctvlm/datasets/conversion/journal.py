"""Journal of the opened cases, stored next to the manifest, from which an interrupted conversion resumes."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

from ctvlm.utils import append_text


def files_of(case: dict) -> list[str]:
    """All file paths of a case."""
    volume, regions = case["volume"], case.get("region_map")
    paths = [volume["path"] if isinstance(volume, dict) else volume]
    if isinstance(regions, dict):
        paths += [regions["path"]] if "path" in regions else list(regions["files"].values())
    elif regions:
        paths.append(regions)
    return paths + [mask["path"] if isinstance(mask, dict) else mask for mask in case.get("lesion_masks") or []]


def fingerprint(case: dict, *how: str) -> str:
    """Hash of a case, the check options ``how``, and the sizes and times of its files.

    A case whose file has changed therefore gets a new fingerprint. For a case that is built from other files
    (``extra.sources``), the source files are used, because its own files may not exist yet.
    """
    stats: list[tuple[int, int] | None] = []
    for path in (case.get("extra") or {}).get("sources") or files_of(case):
        try:
            stat = os.stat(path)
            stats.append((stat.st_size, stat.st_mtime_ns))
        except OSError:
            stats.append(None)
    text = json.dumps([case, how, stats], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Journal:
    """Results by fingerprint, one JSON line each, appended immediately. The file is removed after a complete run."""

    def __init__(self, manifest: Path) -> None:
        self.path = manifest.with_name(f"{manifest.name}.progress")
        self.results: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    entry = json.loads(line)
                    self.results[entry.pop("key")] = entry
                except (ValueError, KeyError, AttributeError, TypeError):
                    continue  # incomplete last line of a killed run
        self._started = self._failed = False

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the result of an earlier run, or None if there is none or files of it are missing."""
        entry = self.results.get(key)
        if entry and entry.get("case") and not all(os.path.exists(p) for p in files_of(entry["case"])):
            return None
        return entry

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Append a result.

        Warns:
            UserWarning: once, if the file cannot be written. An interrupted run would open the later cases again.
        """
        line = json.dumps({"key": key, **entry}, ensure_ascii=False) + "\n"
        # The last line of a killed run may be incomplete.
        start = "" if self._started or not self.path.is_file() else "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_text(self.path, start + line)
            self._started = True
        except OSError as error:
            if not self._failed:
                warnings.warn(f"{error}; an interrupted conversion cannot be resumed from it", stacklevel=2)
            self._failed = True

    def close(self) -> None:
        """Delete the file, after a complete run."""
        self.path.unlink(missing_ok=True)
