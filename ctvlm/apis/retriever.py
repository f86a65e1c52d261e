"""Search CTs by text or by another CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctvlm.apis.case_input import CaseFailure, InputCase, Inputs, Mask
from ctvlm.apis.case_reader import ReadCase
from ctvlm.apis.feature_extractor import FeatureExtractor, VolumeFeatures
from ctvlm.apis.fingerprint import case_fingerprint, case_key, model_checksum, outdated, resolved
from ctvlm.apis.inferencer import Inferencer, tracked
from ctvlm.apis.save_cases import DONE, FAILED, KEPT, Outcome, SaveSummary
from ctvlm.apis.search_index import BACKENDS, IndexedCase, SearchIndex
from ctvlm.models.objectives import BatchContext
from ctvlm.utils import check_choice

# Cases that an interrupted run of ``add`` can lose.
CASES_PER_FLUSH = 256


@dataclass(frozen=True)
class Hit:
    """One result of a search.

    Attributes:
        rank: starts with 1.
        case_id: for display; ``path`` distinguishes CTs with the same id.
        path: absolute path of the CT; "" for an array.
        score: cosine similarity to the query.
    """

    rank: int
    case_id: str
    path: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return dict(rank=self.rank, case_id=self.case_id, path=self.path, score=self.score)


@dataclass(frozen=True)
class Hits:
    """Results of one query: a text, or the id of a CT. ``remark``: reason not to trust the scores, or ""."""

    query: str
    hits: tuple[Hit, ...]
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return dict(query=self.query, hits=[hit.to_dict() for hit in self.hits], remark=self.remark)


class Retriever(Inferencer[Hits]):
    """Search an index of CTs by text, or by a CT.

    Example::

        find = Retriever(index="my_index")
        find.add("data/ct")
        print(find.search(["Large left pleural effusion."], k=5)[0].hits)
        print(find("new_ct.nii.gz").hits)

    Args:
        args, kwargs: as Inferencer.
        index: folder of the index; see SearchIndex.
        k: number of hits per query.
        backend: ``numpy`` or ``faiss``; see ``SearchIndex.search``.

    Raises:
        CTVLMError: as SearchIndex, for example for an index of another model.
    """

    task = "searching"

    def __init__(self, *args: Any, index: str | Path, k: int = 10, backend: str = "numpy", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_choice("Retriever", "backend", backend, BACKENDS)
        self.k, self.backend = k, backend
        self.embed = FeatureExtractor(self.model, pipeline=self.pipeline)
        self.index = SearchIndex(index, model_checksum(self))

    def add(
        self,
        inputs: Inputs,
        mask: Mask | Sequence[Mask | None] | None = None,
        mask_source: str | None = None,
        batch_size: int = 4,
        progress: bool = False,
        **options: Any,
    ) -> SaveSummary:
        """Add all cases of an input to the index. Cases that are in it with unchanged files are kept.

        An interrupted run resumes when it is started again. Arguments and errors are those of ``Inferencer.run``; a
        case that cannot be read is reported in the summary, and removed from the index if its file has changed.
        """
        found = self.find(inputs, mask, mask_source, **options)
        summary = SaveSummary(str(self.index.folder), notes=list(found.notes))
        summary.outcomes += [Outcome(f.case_id, FAILED, f.path, f.reason) for f in found.failures]
        prints = {case.case_id: (case_key(case), case_fingerprint(case)) for case in found.cases}
        kept = {name for name, (key, fingerprint) in prints.items() if self.index.has(fingerprint, key)}
        summary.outcomes += [Outcome(case.case_id, KEPT, case.path) for case in found.cases if case.case_id in kept]
        todo = [case for case in found.cases if case.case_id not in kept]
        pending: list[tuple[InputCase, VolumeFeatures]] = []
        try:
            for number, result in tracked(self.embed.stream(todo, batch_size), len(todo), "indexing", progress):
                case = todo[number]
                if isinstance(result, CaseFailure):
                    summary.outcomes.append(Outcome(case.case_id, FAILED, case.path, result.reason))
                    if outdated(case):
                        self.index.remove(prints[case.case_id][0])
                    continue
                pending.append((case, result))
                summary.outcomes.append(Outcome(case.case_id, DONE, case.path))
                if len(pending) == CASES_PER_FLUSH:
                    self._flush(pending, prints)
        finally:
            self._flush(pending, prints)
        return summary

    def _flush(self, pending: list[tuple[InputCase, VolumeFeatures]], prints: dict[str, tuple[str, str]]) -> None:
        if not pending:
            return
        cases = []
        for case, features in pending:
            key, fingerprint = prints[case.case_id]
            cases.append(IndexedCase(key, case.case_id, resolved(case.path), fingerprint, features.synthetic))
        self.index.append(np.stack([features.volume.numpy() for _, features in pending]), cases)
        pending.clear()

    def search(self, texts: Sequence[str], k: int | None = None) -> list[Hits]:
        """The k most similar CTs of each text.

        Raises:
            CTVLMError: the index is empty.
        """
        return [
            self._hits(text, embedding_P, k)
            for text, embedding_P in zip(texts, self.embed.embed_texts(texts).numpy(), strict=True)
        ]

    def predict(self, cases: Sequence[ReadCase], context: BatchContext | None = None) -> list[Hits]:
        """The most similar CTs of each CT, without the CT itself (see ``case_key``)."""
        features = self.embed.features(cases, context)
        return [self._hits(case.case_id, f.volume.numpy(), None, case.key) for case, f in zip(cases, features)]

    def _hits(self, query: str, embedding_P: np.ndarray, k: int | None, own_key: str = "") -> Hits:
        found = self.index.search(embedding_P, self.k if k is None else k, self.backend, own_key)
        hits = tuple(Hit(rank, case.case_id, case.path, score) for rank, (case, score) in enumerate(found, start=1))
        remarks = [remark for case, _ in found if (remark := self.remark_on(case))]
        return Hits(query, hits, remarks[0] if remarks else "")
