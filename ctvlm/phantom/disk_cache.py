"""Disk cache of drawn phantoms, shared by later and concurrent runs."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import warnings
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

import ctvlm.anatomy
from ctvlm.phantom.packed import Job, PackedCase
from ctvlm.utils import WriteError, atomic_write

# Exceptions of zipfile and NumPy for a truncated or changed file.
BROKEN = (OSError, ValueError, KeyError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile)


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Hash of what determines the drawn cases: the source of this package, the region schemes, NumPy's version."""
    digest = hashlib.sha256(np.__version__.encode())
    for folder in (Path(__file__).parent, Path(ctvlm.anatomy.__file__).parent):
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".json")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


class DiskCache:
    """Chunks of drawn cases, one ``.npz`` each, in a folder named after the generator's fingerprint.

    A file is named after a hash of its jobs, so every data set with the same cases uses it. Files are written
    atomically; an unreadable file counts as missing. A change of the phantom's code starts a new folder; the old one
    may be deleted.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser() / f"phantom_{fingerprint()}"

    def path(self, jobs: Sequence[Job]) -> Path:
        name = hashlib.sha256(json.dumps(list(jobs)).encode()).hexdigest()[:24]
        return self.folder / f"{name}.npz"

    def load(self, jobs: Sequence[Job], only: int | None = None) -> list[PackedCase] | None:
        """Read the cases of a chunk, or the one at index ``only``; None if there is no readable file."""
        path = self.path(jobs)
        try:
            with np.load(path, allow_pickle=False) as file:
                texts = json.loads(file["texts"].tobytes())
                return [_read(file, i, texts[i]) for i in (range(len(jobs)) if only is None else [only])]
        except FileNotFoundError:
            return None
        except BROKEN as error:
            print_log(
                f"{path} cannot be read ({type(error).__name__}: {error}); PhantomCT draws its cases again", "current"
            )
            return None

    def save(self, jobs: Sequence[Job], cases: Sequence[PackedCase]) -> None:
        """Write a chunk atomically. Processes that draw the same chunk write identical files.

        Warns:
            UserWarning: the file cannot be written; the cases are used without it.
        """
        arrays: dict[str, Any] = {}
        texts = []
        for i, case in enumerate(cases):
            arrays[f"volume_{i}"], arrays[f"affine_{i}"] = case.volume, case.affine
            arrays[f"region_{i}"] = np.frombuffer(case.region, np.uint8)
            arrays[f"lesion_{i}"] = np.frombuffer(case.lesion, np.uint8)
            keys = ("seed", "case_id", "patient_id", "spacing", "report", "cot", "labels")
            texts.append({key: getattr(case, key) for key in keys})
        arrays["texts"] = np.frombuffer(json.dumps(texts).encode(), np.uint8)
        try:
            with atomic_write(self.path(jobs)) as part:
                np.savez(part, **arrays)
        except WriteError as error:
            # One text for all chunks, so that it is printed once.
            warnings.warn(
                f"the cache of phantoms {self.folder} cannot be written ({os.strerror(error.errno or 0)}); the cases "
                "are drawn again in the next run. Set cache_dir of PhantomCT to another folder, or to None",
                stacklevel=2,
            )


def _read(file: np.lib.npyio.NpzFile, i: int, text: dict) -> PackedCase:
    return PackedCase(
        **{**text, "spacing": tuple(text["spacing"]), "cot": tuple(text["cot"])},
        volume=file[f"volume_{i}"],
        affine=file[f"affine_{i}"],
        region=file[f"region_{i}"].tobytes(),
        lesion=file[f"lesion_{i}"].tobytes(),
    )
