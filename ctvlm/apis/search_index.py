"""Index of CT embeddings on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ctvlm.engine import write_json
from ctvlm.utils import CTVLMError, atomic_write, check_choice
from ctvlm.volume.checksums import sha256_of

FORMAT = 2
BACKENDS = ("numpy", "faiss")


@dataclass(frozen=True)
class IndexedCase:
    """A case of the index.

    Attributes:
        key: identifies the CT, see ``case_key``. The case id is for display; several CTs can have the same.
        path: absolute path of the CT; "" for an array.
        fingerprint: see ``case_fingerprint``.
        synthetic: as in ReadCase.
    """

    key: str
    case_id: str
    path: str
    fingerprint: str
    synthetic: bool


class SearchIndex:
    """Embeddings with ids and paths, in a folder::

        index.json             format, checksum of the model, cases of each part, and keys that were removed
        part_00001.safetensors embeddings (cases, P), float32, L2-normalised

    ``append`` adds a part, and then rewrites index.json atomically, so that an interrupted run loses at most one part.
    index.json is written before the first part, so that the folder can be opened again after an interruption.
    One process may write to an index at a time.

    Args:
        folder: is created by the first ``append``.
        model: checksum of the model, see ``model_checksum``.

    Raises:
        CTVLMError: the index is damaged, has another format, or belongs to another model.
    """

    def __init__(self, folder: str | Path, model: str) -> None:
        self.folder, self.model = Path(folder), model
        self._parts: list[dict[str, Any]] = []
        self._embeddings: list[np.ndarray] = []
        self._latest: dict[str, tuple[int, IndexedCase]] = {}  # by key
        self._rows = 0
        self._removed: list[str] = []
        self._search: tuple[str, Any] | None = None
        if self._file.is_file():
            self._read()
        elif self.folder.is_dir() and not all(path.name.startswith(".part_") for path in self.folder.iterdir()):
            raise CTVLMError(f"{folder}: found a folder without index.json; expected an index, or an empty folder")

    @property
    def _file(self) -> Path:
        return self.folder / "index.json"

    def __len__(self) -> int:
        return len(self._latest)

    @property
    def cases(self) -> list[IndexedCase]:
        """Cases in the order of ``embeddings``."""
        return [case for _, case in self._latest.values()]

    @property
    def embeddings(self) -> np.ndarray:
        """Embeddings of the cases (len, P), float32."""
        if not self._latest:
            raise CTVLMError(f"{self.folder}: found an empty index; expected at least one case: add CTs first")
        return np.concatenate(self._embeddings)[[row for row, _ in self._latest.values()]]

    def has(self, fingerprint: str, key: str) -> bool:
        """Whether a CT is in the index with unchanged files."""
        known = self._latest.get(key)
        return known is not None and known[1].fingerprint == fingerprint

    def append(self, embeddings_NP: np.ndarray, cases: Sequence[IndexedCase]) -> None:
        """Add CTs, or replace those with the same key."""
        if not self._file.is_file():
            self._write()
        name = f"part_{len(self._parts) + 1:05d}.safetensors"
        array = np.ascontiguousarray(embeddings_NP, dtype=np.float32)
        with atomic_write(self.folder / name) as part:
            safetensors.numpy.save_file({"embeddings": array}, part)
        self._add(array, cases)
        checksum = sha256_of(self.folder / name)
        self._parts.append(
            dict(file=name, sha256=checksum, cases=[asdict(case) for case in cases], removed=self._removed)
        )
        self._removed = []
        self._write()

    def remove(self, key: str) -> None:
        """Remove a CT."""
        if self._latest.pop(key, None) is not None:
            self._search = None
            self._removed = [*self._removed, key]
            self._write()

    def search(
        self, query_P: np.ndarray, k: int, backend: str = "numpy", exclude: str = ""
    ) -> list[tuple[IndexedCase, float]]:
        """The k most similar cases with their cosine similarities, most similar first.

        Args:
            query_P: L2-normalised embedding.
            backend: ``numpy``, or ``faiss`` for large indexes. Both are exact.
            exclude: key of a CT that is not searched.

        Raises:
            CTVLMError: the index is empty, or faiss is not installed.
        """
        check_choice("SearchIndex", "backend", backend, BACKENDS)
        if self._search is None or self._search[0] != backend:
            self._search = backend, _faiss_index(self.embeddings) if backend == "faiss" else self.embeddings
        cases, query = self.cases, np.ascontiguousarray(query_P, dtype=np.float32)
        wanted, k = k, min(k + (exclude in self._latest), len(self))
        if backend == "faiss":
            scores, order = (rows[0] for rows in self._search[1].search(query[None], k))
        else:
            all_scores = self._search[1] @ query
            order = np.argsort(-all_scores, kind="stable")[:k]
            scores = all_scores[order]
        found = [(cases[i], float(score)) for i, score in zip(order, scores, strict=True)]
        return [(case, score) for case, score in found if case.key != exclude][:wanted]

    def _write(self) -> None:
        content = dict(format=FORMAT, model=self.model, parts=self._parts, removed=self._removed)
        write_json(self._file, content)

    def _forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._latest.pop(key, None)

    def _add(self, array: np.ndarray, cases: Sequence[IndexedCase]) -> None:
        self._embeddings.append(array)
        self._latest |= {case.key: (self._rows + i, case) for i, case in enumerate(cases)}
        self._rows += len(array)
        self._search = None

    def _read(self) -> None:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise CTVLMError(f"{self._file}: found format {content['format']}; expected {FORMAT}: build it again")
            if content["model"] != self.model:
                raise CTVLMError(
                    f"{self.folder}: found an index of another model ({content['model'][:12]}); expected the model "
                    f"{self.model[:12]}: open the model that wrote it, or build an index in another folder"
                )
            for entry in content["parts"]:
                if entry.get("sha256") not in (None, sha256_of(self.folder / entry["file"])):
                    raise ValueError(f"{entry['file']} has changed")
                array = safetensors.numpy.load_file(self.folder / entry["file"])["embeddings"]
                cases = [IndexedCase(**case) for case in entry["cases"]]
                if len(array) != len(cases):
                    raise ValueError(f"{entry['file']} has {len(array)} embeddings for {len(cases)} cases")
                self._forget(entry["removed"])
                self._add(array, cases)
                self._parts.append(entry)
            self._removed = list(content["removed"])
            self._forget(self._removed)
        except CTVLMError:
            raise
        except Exception as error:
            raise CTVLMError(
                f"{self.folder}: found a damaged index ({type(error).__name__}: {error}); delete the folder and build "
                "it again"
            ) from error


def _faiss_index(embeddings_NP: np.ndarray) -> Any:
    try:
        import faiss
    except ImportError:
        raise CTVLMError("backend 'faiss' needs FAISS: pip install 'ctvlm[faiss]'") from None
    index = faiss.IndexFlatIP(embeddings_NP.shape[1])
    index.add(np.ascontiguousarray(embeddings_NP))
    return index
