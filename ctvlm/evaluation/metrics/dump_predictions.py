"""Write the predictions of a run to a file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ctvlm.evaluation.dump import encode_case, save_dump
from ctvlm.evaluation.functional.zero_shot_protocols import get_protocol
from ctvlm.evaluation.metrics.case_metric import CaseMetric
from ctvlm.registry import METRICS
from ctvlm.text.finding_labels import CT_RATE_LABELS
from ctvlm.text.prompts import prompt_texts
from ctvlm.utils import WriteError

_ALWAYS = frozenset({"case_id", "patient_id", "evaluation_set", "labels_source"})


@METRICS.register_module()
class DumpPredictions(CaseMetric):
    """Write annotations and predictions of all cases to a file for ``eval_predictions.py``.

    The file contains tensors and plain containers only. (mmengine's ``DumpResults`` writes a pickle, which can run code
    when it is loaded.) Reports the number of cases.

    Args:
        out: path of the .pt file.
        protocols: zero-shot protocols to include; the file then contains the embeddings of their prompts.
        names: findings of those prompts; CT-RATE's 18 by default.
        keys: keys of the samples to write, such as the ``needs`` of the metrics that will score the file; None writes
            all. Case id, patient id, evaluation set and label source are always written.

    Attributes:
        failure: the error if the file could not be written. ResultsTableHook raises it after it has printed the results
            of the other metrics.
    """

    default_prefix = "dump"

    def __init__(
        self,
        out: str,
        protocols: Sequence[str] = (),
        names: Sequence[str] | None = None,
        keys: Iterable[str] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not out.lower().endswith(".pt"):
            raise ValueError(f"DumpPredictions: found out={out!r}; expected a .pt file.")
        self.out = out
        self.names = list(CT_RATE_LABELS if names is None else names)
        self.protocols = [get_protocol(name) for name in protocols]
        self.keys = None if keys is None else frozenset(keys) | _ALWAYS
        self._prompts: Mapping[str, Any] = {}
        self._scale = 1.0
        self._remark = ""
        self.failure: WriteError | None = None

    @property
    def needs(self) -> frozenset[str] | None:
        return self.keys

    def missing_keys(self, available: Collection[str]) -> list[str]:
        return []

    def prompts(self) -> list[str]:
        """Prompts whose embeddings are written."""
        prompts = [prompt_texts(p.select(self.names), p.templates, p.phrases) for p in self.protocols]
        return list(dict.fromkeys(text for texts in prompts for text in texts))

    def set_prompt_embeddings(self, embeddings: Mapping[str, Any], scale: float = 1.0) -> None:
        """Set the embeddings to write, see ``ZeroShotClassificationMetric``."""
        self._prompts, self._scale = dict(embeddings), float(scale)

    def set_remark(self, remark: str) -> None:
        """Set a warning about the scores, which ``eval_predictions.py`` prints."""
        self._remark = remark

    def metric_names(self) -> list[str]:
        return ["dump/num_cases"]

    def record(self, sample: dict) -> dict[str, Any]:
        # Encoded here, because the lesion maps of a whole test set would not fit in memory.
        selected = {key: value for key, value in sample.items() if self.keys is None or key in self.keys}
        return {"sample": encode_case(selected)}

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        try:
            save_dump(self.out, [case["sample"] for case in cases], self._prompts, self._scale, self._remark)
        except WriteError as error:
            self.failure = error
        return {"num_cases": len(cases)}
