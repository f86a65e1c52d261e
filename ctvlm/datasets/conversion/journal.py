"""What a converter has opened already, kept beside the manifest so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def files_of(case: dict) -> list[str]:
    """Every path that a case names."""
    volume, regions = case["volume"], case.get("region_map")
    paths = [volume["path"] if isinstance(volume, dict) else volume]
    if isinstance(regions, dict):
        paths += [regions["path"]] if "path" in regions else list(regions["files"].values())
    elif regions:
        paths.append(regions)
    return paths + [mask["path"] if isinstance(mask, dict) else mask for mask in case.get("lesion_masks") or []]


def fingerprint(case: dict, *how: str) -> str:
    """Of a case, of how it is checked, and of its files: one that was repaired since is opened anew.

    A case that is made from other files (``extra.sources``) names files still to be written: its sources count.
    """
    stats = []
    for path in (case.get("extra") or {}).get("sources") or files_of(case):
        try:
            stat = os.stat(path)
            stats.append((stat.st_size, stat.st_mtime_ns))
        except OSError:
            stats.append(None)
    text = json.dumps([case, how, stats], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Journal:
    """Results by fingerprint, one JSON line each, written as they come; gone once the manifest is written."""

    def __init__(self, manifest: Path) -> None:
        self.path = manifest.with_name(f"{manifest.name}.progress")
        self.results: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    entry = json.loads(line)
                    self.results[entry.pop("key")] = entry
                except (ValueError, KeyError, AttributeError, TypeError):
                    continue  # the line that was being written when the run was killed
        self._file = None

    def get(self, key: str) -> dict[str, Any] | None:
        """The result of an earlier run, if the files that it wrote are still there."""
        entry = self.results.get(key)
        if entry and entry.get("case") and not all(os.path.exists(p) for p in files_of(entry["case"])):
            return None
        return entry

    def add(self, key: str, entry: dict[str, Any]) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  held open over the run
            if self._file.tell():
                self._file.write("\n")  # a torn last line must not swallow this one
        self._file.write(json.dumps({"key": key, **entry}, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self, done: bool) -> None:
        """Close; where the work is done, the file goes too."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if done:
            self.path.unlink(missing_ok=True)
