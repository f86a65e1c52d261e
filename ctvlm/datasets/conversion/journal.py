"""Journal of the opened cases, stored next to the manifest, from which an interrupted conversion resumes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any


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
        self._file: IO[str] | None = None

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the result of an earlier run, or None if there is none or files of it are missing."""
        entry = self.results.get(key)
        if entry and entry.get("case") and not all(os.path.exists(p) for p in files_of(entry["case"])):
            return None
        return entry

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Append a result."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  stays open during the run
            if self._file.tell():
                self._file.write("\n")  # the last line may be incomplete
        self._file.write(json.dumps({"key": key, **entry}, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self, done: bool) -> None:
        """Close the file, and delete it if ``done``."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if done:
            self.path.unlink(missing_ok=True)
