"""Generated reasoning of a CT: steps with regions, attention and confidence, and the impression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctvlm.apis.case_reader import ReadCase
from ctvlm.apis.inferencer import Inferencer, UnsupportedTaskError
from ctvlm.models.heads.generation.answers import Answer, WrittenStep
from ctvlm.models.objectives import BatchContext
from ctvlm.volume import CTVolume, peak_mm


@dataclass(frozen=True)
class ReasonedStep:
    """One generated step.

    Attributes:
        regions: names of the regions that the model generated with the text.
        confidence: mean probability of the tokens of the step under the model, 0 to 1; None beyond the maximum length.
        attention: attention of the text over the patches, computed as in training, on the patch grid; relative to its
            mean over the patches that the encoder has not dropped.
        peak_mm: centre of the most attended patch, (x, y, z) in mm, RAS+.
        slice_index: most attended axial slice: index from the feet in ``ReadCase.ct``.
        top_region: region with the largest share of the attention; None without a region map.
    """

    text: str
    regions: tuple[str, ...]
    confidence: float | None
    attention: CTVolume
    peak_mm: tuple[float, float, float]
    slice_index: int
    top_region: str | None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the attention map, in plain containers for JSON."""
        return dict(
            text=self.text,
            regions=list(self.regions),
            confidence=self.confidence,
            peak_mm=list(self.peak_mm),
            slice_index=self.slice_index,
            top_region=self.top_region,
        )


@dataclass(frozen=True)
class Reasoning:
    """Generated reasoning of one CT.

    Attributes:
        impression: may be empty.
        impression_confidence: as ``ReasonedStep.confidence``; None without an impression.
        remark: reason not to trust the text, or "".
    """

    case_id: str
    steps: tuple[ReasonedStep, ...]
    impression: str
    impression_confidence: float | None
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Everything but the attention maps, in plain containers for JSON."""
        return dict(
            case_id=self.case_id,
            steps=[step.to_dict() for step in self.steps],
            impression=self.impression,
            impression_confidence=self.impression_confidence,
            remark=self.remark,
        )


class ReasoningInferencer(Inferencer[Reasoning]):
    """Generate the reasoning of a CT with the generation head of a model.

    Example::

        for step in ReasoningInferencer()("ct.nii.gz").steps:
            print(f"{step.confidence:.2f} {step.text} {step.regions} slice {step.slice_index}")

    Arguments and errors are those of Inferencer. A head that samples several reports gives another one of them for
    another state of torch's random generator.

    Raises:
        UnsupportedTaskError: the model has no generation head.
    """

    task = "reasoning"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        heads = [getattr(objective, "head", None) for objective in self.model.objectives.values()]
        self._heads: list[Any] = [head for head in heads if hasattr(head, "confidences")]
        if not self._heads:
            raise UnsupportedTaskError(
                "this model generates no text; expected an objective of type GenerationObjective, such as in "
                "configs/vit3d_cot_generation.py"
            )

    @torch.no_grad()
    def predict(self, cases: Sequence[ReadCase], context: BatchContext | None = None) -> list[Reasoning]:
        context = self.context(cases) if context is None else context
        head = self._heads[0]
        answers = [written[0] for written in head.generate(context.encoded, [[""]] * len(cases))]
        confidences = head.confidences(context.encoded, answers)
        return [
            self._reasoning(context, b, case, answer, confidence)
            for b, (case, answer, confidence) in enumerate(zip(cases, answers, confidences, strict=True))
        ]

    def _reasoning(
        self, context: BatchContext, b: int, case: ReadCase, answer: Answer, confidence: list[float | None]
    ) -> Reasoning:
        written = [(step, value) for step, value in zip(answer.steps, confidence) if step.text]
        attention_SN = self.text_attention(context, b, [step.text for step, _ in written])
        steps = (
            self._step(context, b, case, step, value, attention_N)
            for (step, value), attention_N in zip(written, attention_SN, strict=True)
        )
        last = confidence[-1] if answer.impression else None
        return Reasoning(case.case_id, tuple(steps), answer.impression, last, self.remark_on(case))

    def _step(
        self, context: BatchContext, b: int, case: ReadCase, step: WrittenStep, value: float | None, attention_N: Tensor
    ) -> ReasonedStep:
        encoded, scheme = context.encoded, self.read.scheme
        attention = self.attention_map(context, b, case, attention_N)
        share_R = attention_N @ encoded.patch_to_region[b].float().cpu()[:, 1:]
        top = scheme.name_of(int(share_R.argmax()) + 1) if share_R.max() > 0 else None
        peak = peak_mm(attention)
        return ReasonedStep(
            text=step.text,
            regions=tuple(scheme.name_of(region) for region in step.regions),
            confidence=value,
            attention=attention,
            peak_mm=peak,
            slice_index=_slice_index(attention, case.ct),
            top_region=top,
        )


def _slice_index(attention: CTVolume, ct: CTVolume) -> int:
    """Slice of the CT at the centre of the layer of patches with the most attention."""
    layer = int(attention.array.sum(axis=(1, 2)).argmax())
    depth, height, width = attention.shape
    centre = attention.affine @ np.array([(width - 1) / 2, (height - 1) / 2, layer, 1])
    z = (np.linalg.inv(ct.affine) @ centre)[2]
    return int(np.clip(np.rint(z), 0, ct.shape[0] - 1))
