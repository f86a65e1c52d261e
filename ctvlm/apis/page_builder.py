"""Viewer pages of CTs: all results of a model in one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctvlm.anatomy import MentionLexicon
from ctvlm.apis.case_reader import ReadCase
from ctvlm.apis.inferencer import Inferencer, UnsupportedTaskError
from ctvlm.apis.reasoning_inferencer import ReasoningInferencer
from ctvlm.apis.region_segmenter import FROM_MASK, RegionSegmenter
from ctvlm.apis.retriever import Retriever
from ctvlm.apis.zero_shot_classifier import ZeroShotClassifier
from ctvlm.models.objectives import BatchContext
from ctvlm.visualization.viewer import CasePage, PageCase, PageStep
from ctvlm.volume import CTVolume, peak_mm

SIMILAR_CASES = 5


class PageBuilder(Inferencer[CasePage]):
    """Content of the viewer page of a CT: regions, reasoning steps, findings, and similar cases of an index.

    A page shows what the model can produce: a model without a generation head gives no steps, for example.

    Example::

        page = PageBuilder()("ct.nii.gz")
        Path("page.html").write_text(page_html(page), encoding="utf-8")

    Args:
        args, kwargs: as Inferencer.
        texts: shown as steps with their attention, instead of generated steps.
        index: folder of a search index; see Retriever.

    Raises:
        CTVLMError: as Retriever.
    """

    task = "building pages"

    def __init__(self, *args: Any, texts: Sequence[str] = (), index: str | Path | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.texts = list(texts)
        parts: dict[str, Any] = dict(pipeline=self.pipeline)
        self._classify = ZeroShotClassifier(self.model, **parts)
        self._segment = _if_supported(RegionSegmenter, self.model, **parts)
        self._reason = None if self.texts else _if_supported(ReasoningInferencer, self.model, **parts)
        self._retrieve = None if index is None else Retriever(self.model, index=index, k=SIMILAR_CASES, **parts)
        self._lexicon = MentionLexicon(self.read.scheme)

    @torch.no_grad()
    def predict(self, cases: Sequence[ReadCase], context: BatchContext | None = None) -> list[CasePage]:
        # One case at a time: a page is built for one CT.
        return [
            self._page(case, self.context([case]) if len(cases) > 1 or context is None else context) for case in cases
        ]

    def _page(self, case: ReadCase, context: BatchContext) -> CasePage:
        regions, origin = self._regions(case, context)
        steps, impression = self._steps(case, context)
        similar = [] if self._retrieve is None else self._retrieve.predict([case], context)[0].hits
        return CasePage(
            case_id=case.case_id,
            ct=case.ct,
            scheme=self.read.scheme,
            regions=regions,
            region_origin=origin,
            steps=steps,
            step_origin="given texts" if self.texts else "generated",
            impression=impression,
            findings=self._classify.predict([case], context)[0].probabilities,
            similar=[PageCase(hit.case_id, hit.score, hit.path) for hit in similar],
            metadata=self._metadata(case),
            remark=self.remark_on(case),
        )

    def _regions(self, case: ReadCase, context: BatchContext) -> tuple[CTVolume | None, str]:
        if case.region_map is not None:
            return CTVolume(case.region_map, case.ct.affine), FROM_MASK
        if self._segment is None:
            return None, ""
        found = self._segment.predict([case], context)[0]
        return found.labels, found.origin

    def _steps(self, case: ReadCase, context: BatchContext) -> tuple[list[PageStep], str]:
        if self.texts:
            attention_UN = self.text_attention(context, 0, self.texts)
            maps = [self.attention_map(context, 0, case, attention_N) for attention_N in attention_UN]
            names = [[self.read.scheme.name_of(i) for i in self._lexicon.regions_in(text)] for text in self.texts]
            steps = [
                PageStep(text, regions, None, heat, peak_mm(heat))
                for text, regions, heat in zip(self.texts, names, maps, strict=True)
            ]
            return steps, ""
        if self._reason is None:
            return [], ""
        reasoning = self._reason.predict([case], context)[0]
        steps = [
            PageStep(step.text, step.regions, step.confidence, step.attention, step.peak_mm) for step in reasoning.steps
        ]
        return steps, reasoning.impression

    def _metadata(self, case: ReadCase) -> dict[str, str]:
        depth, height, width = case.ct.shape
        z, y, x = case.ct.spacing
        records = getattr(self.model, "training_data", [])
        return {
            "File": case.path or case.case_id,
            "CT": f"{width} × {height} × {depth} voxels of {x:.2f} × {y:.2f} × {z:.2f} mm",
            "Range": f"{int(np.min(case.ct.array))} to {int(np.max(case.ct.array))} HU",
            "Model": Path(str(self.model.cfg.filename or "")).stem or type(self.model.backbone).__name__,
            "Trained on": ", ".join(dict.fromkeys(str(record.get("dataset", "unknown")) for record in records))
            or "unknown data",
        }


def _if_supported(kind: type[Inferencer], model: Any, **options: Any) -> Any:
    """An inferencer, or None if the model cannot do this task."""
    try:
        return kind(model, **options)
    except UnsupportedTaskError:
        return None
