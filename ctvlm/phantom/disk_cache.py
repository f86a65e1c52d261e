"""Disk cache of drawn phantoms, shared by later and concurrent runs."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import warnings
import zipfile
from functools import lru_cache
from pathlib import Path

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
    """Drawn cases, one ``.npz`` each, in a folder named after the generator's fingerprint.

    A file is named after a hash of its job, so every data set with the same case uses it. Files are written
    atomically; an unreadable file counts as missing. A change of the phantom's code starts a new folder; the old one
    may be deleted.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser() / f"phantom_{fingerprint()}"

    def path(self, job: Job) -> Path:
        name = hashlib.sha256(json.dumps(job).encode()).hexdigest()[:24]
        return self.folder / f"{name}.npz"

    def load(self, job: Job) -> PackedCase | None:
        """Read a case; None if there is no readable file."""
        path = self.path(job)
        try:
            with np.load(path, allow_pickle=False) as file:
                return _read(file)
        except FileNotFoundError:
            return None
        except BROKEN as error:
            print_log(
                f"{path} cannot be read ({type(error).__name__}: {error}); PhantomCT draws its case again", "current"
            )
            return None

    def save(self, job: Job, case: PackedCase) -> None:
        """Write a case atomically. Processes that draw the same case write identical files.

        Warns:
            UserWarning: the file cannot be written; the case is used without it.
        """
        keys = ("seed", "case_id", "patient_id", "spacing", "report", "cot", "labels")
        text = json.dumps({key: getattr(case, key) for key in keys})
        arrays = dict(
            volume=case.volume,
            affine=case.affine,
            region=np.frombuffer(case.region, np.uint8),
            lesion=np.frombuffer(case.lesion, np.uint8),
            text=np.frombuffer(text.encode(), np.uint8),
        )
        try:
            with atomic_write(self.path(job)) as part:
                np.savez(part, **arrays)  # type: ignore[arg-type]
        except WriteError as error:
            # One text for all cases, so that it is printed once.
            warnings.warn(
                f"the cache of phantoms {self.folder} cannot be written ({os.strerror(error.errno or 0)}); the cases "
                "are drawn again in the next run. Set cache_dir of PhantomCT to another folder, or to None",
                stacklevel=2,
            )


def _read(file: np.lib.npyio.NpzFile) -> PackedCase:
    text = json.loads(file["text"].tobytes())
    return PackedCase(
        **{**text, "spacing": tuple(text["spacing"]), "cot": tuple(text["cot"])},
        volume=file["volume"],
        affine=file["affine"],
        region=file["region"].tobytes(),
        lesion=file["lesion"].tobytes(),
    )
