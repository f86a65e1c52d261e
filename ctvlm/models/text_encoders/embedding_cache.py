"""Cache on disk for the embeddings of a frozen encoder.

SQLite is part of Python, its transactions are atomic, and several processes can read and write one file. The default
journal is used, because write-ahead logging does not work on network file systems. Rows contain the hash of a text,
not the text.
"""

from __future__ import annotations

import hashlib
import sqlite3
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ctvlm.utils import CTVLMError

_HEADER = b"SQLite format 3\0"
_OTHERS = "SELECT name FROM sqlite_master WHERE type != 'index' AND (type != 'table' OR name != 'embedding')"
_CHOOSE = "it is left unchanged. Choose another cache_dir of the text encoder, or remove the file"
_LOOKUP = 500  # below SQLite's limit of parameters in one query


def text_key(text: str) -> bytes:
    """Hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _check(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=8).digest()


class EmbeddingCache:
    """A file of embeddings (E), float32, by text.

    Entries with a wrong checksum or size are ignored. If the file cannot be used (damaged, locked for a minute, full
    disk, read-only folder), there is a warning, and no entry is read or written. A file is never deleted or replaced.
    Each call opens its own connection, so the cache can be copied, forked and used from threads.

    Raises:
        CTVLMError: ``get`` or ``put`` found a file that is not an embedding cache.
    """

    def __init__(self, path: str | Path, embed_dims: int):
        self.path = Path(path)
        self.embed_dims = embed_dims

    def get(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Embeddings of the texts that are in the cache."""
        keys = {text_key(text): text for text in texts}
        cached: dict[str, np.ndarray] = {}

        def read(database: sqlite3.Connection) -> None:
            for start in range(0, len(keys), _LOOKUP):
                part = list(keys)[start : start + _LOOKUP]
                marks = ",".join("?" * len(part))
                rows = database.execute(f"SELECT key, value, sum FROM embedding WHERE key IN ({marks})", part)
                for key, value, checksum in rows:
                    known = key in keys and isinstance(value, bytes) and len(value) == 4 * self.embed_dims
                    if known and checksum == _check(key, value):
                        cached[keys[key]] = np.frombuffer(value, dtype="<f4")

        self._use(read)
        return cached

    def put(self, embeddings: Mapping[str, np.ndarray]) -> None:
        """Store the finite embeddings in one transaction."""
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
            self._refuse_other_files()
            database = sqlite3.connect(self.path, timeout=60)
            with database:  # one transaction
                if other := database.execute(_OTHERS).fetchone():
                    raise CTVLMError(f"{self.path} is another database, with the table {other[0]!r}: {_CHOOSE}")
                database.execute("CREATE TABLE IF NOT EXISTS embedding (key BLOB PRIMARY KEY, value BLOB, sum BLOB)")
                work(database)
        except (sqlite3.OperationalError, OSError) as error:
            warnings.warn(f"text embedding cache {self.path} cannot be used: {error}", stacklevel=3)
        except sqlite3.DatabaseError as error:
            warnings.warn(f"text embedding cache {self.path} is damaged ({error}): delete it", stacklevel=3)
        finally:
            if database is not None:
                database.close()

    def _refuse_other_files(self) -> None:
        if self.path.is_file() and self.path.stat().st_size:
            with open(self.path, "rb") as file:
                if file.read(len(_HEADER)) != _HEADER:
                    raise CTVLMError(f"{self.path} is not a database of text embeddings: {_CHOOSE}")
