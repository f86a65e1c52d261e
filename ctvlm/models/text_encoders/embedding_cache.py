"""Embeddings of a frozen encoder, computed once and kept on disk.

SQLite, because it is in Python, commits a batch whole or not at all, and lets several processes read and write one
file; a folder of small files or a pickle-based cache would do less. Its default journal, because write-ahead
logging does not work on the network file systems of clusters. Rows hold no text, only its hash.
"""

from __future__ import annotations

import hashlib
import sqlite3
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

_LOOKUP = 500  # below SQLite's limit of parameters in one query


def text_key(text: str) -> bytes:
    """Hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _check(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=8).digest()


class EmbeddingCache:
    """A file of embeddings (E), float32, by text.

    What does not match its checksum or has another size is as good as absent; a file that is no database is replaced.
    When the file cannot be used (locked for a minute, full disk, read-only folder), there is a warning and no entry.
    A connection lives as long as one call, so the cache may be copied, forked and used from threads.
    """

    def __init__(self, path: str | Path, embed_dims: int):
        self.path = Path(path)
        self.embed_dims = embed_dims

    def get(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Embeddings of those texts that are there."""
        keys = {text_key(text): text for text in texts}
        found: dict[str, np.ndarray] = {}

        def read(database: sqlite3.Connection) -> None:
            for start in range(0, len(keys), _LOOKUP):
                some = list(keys)[start : start + _LOOKUP]
                marks = ",".join("?" * len(some))
                rows = database.execute(f"SELECT key, value, sum FROM embedding WHERE key IN ({marks})", some)
                for key, value, checksum in rows:
                    if len(value) == 4 * self.embed_dims and checksum == _check(key, value):
                        found[keys[key]] = np.frombuffer(value, dtype="<f4")

        self._use(read)
        return found

    def put(self, embeddings: Mapping[str, np.ndarray]) -> None:
        """Keep embeddings, all of them or none; what is not finite is not kept."""
        rows = []
        for text, embedding in embeddings.items():
            if np.isfinite(embedding).all():
                key, value = text_key(text), embedding.astype("<f4").tobytes()
                rows.append((key, value, _check(key, value)))
        self._use(lambda database: database.executemany("INSERT OR REPLACE INTO embedding VALUES (?, ?, ?)", rows))

    def _use(self, work: Callable[[sqlite3.Connection], object]) -> None:
        database = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self.path, timeout=60)
            with database:  # one transaction
                database.execute("CREATE TABLE IF NOT EXISTS embedding (key BLOB PRIMARY KEY, value BLOB, sum BLOB)")
                work(database)
        except (sqlite3.OperationalError, OSError) as error:
            warnings.warn(f"cache of text embeddings {self.path} cannot be used now: {error}", stacklevel=3)
        except sqlite3.DatabaseError as error:
            warnings.warn(f"cache of text embeddings {self.path} is broken ({error}): starting it anew", stacklevel=3)
            self.path.unlink(missing_ok=True)
        finally:
            if database is not None:
                database.close()
