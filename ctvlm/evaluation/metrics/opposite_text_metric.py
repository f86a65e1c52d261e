"""Whether a volume fits a sentence or its opposite."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctvlm.evaluation.functional.opposite_text import opposite_hits
from ctvlm.evaluation.functional.protocols import mean_defined
from ctvlm.evaluation.metrics.case_metric import CaseMetric, to_array
from ctvlm.registry import METRICS
from ctvlm.text.opposites import KINDS


@METRICS.register_module()
class OppositeTextMetric(CaseMetric):
    """Accuracy of choosing between a sentence and its opposite: ``negation``, ``laterality``, ``size``, and ``mean``.

    A volume embedding is compared with both texts; a tie counts 1/2. ``mean`` is the mean over the three kinds. The
    wording alone can show which text was written by a rule. ``<kind>_blind`` is therefore the accuracy of the mean
    embedding of all volumes, which knows nothing of the case: what a model reads from the CT is the difference.

    Reads ``pred_volume`` (P), ``pred_opposites`` and ``pred_opposite_texts`` (see OppositeTextObjective).
    """

    default_prefix = "opposite_text"
    needs = frozenset({"pred_volume", "pred_opposites", "pred_opposite_texts"})

    def record(self, sample: dict) -> dict[str, Any]:
        return {
            "volume": to_array(sample["pred_volume"]),
            "texts": to_array(sample["pred_opposite_texts"]),
            "kinds": [pair["kind"] for pair in sample["pred_opposites"]],
        }

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        own: list[np.ndarray] = []
        blind: list[np.ndarray] = []
        if cases:
            mean_P = np.mean([case["volume"] for case in cases], axis=0)
            own = [opposite_hits(case["volume"], case["texts"]) for case in cases]
            blind = [opposite_hits(mean_P, case["texts"]) for case in cases]
        kinds = [np.array(case["kinds"], dtype=str) for case in cases]

        def summary(index: np.ndarray) -> dict[str, float]:
            found: dict[str, float] = {}
            for suffix, hits in (("", own), ("_blind", blind)):
                chosen = {kind: [hits[i][kinds[i] == kind] for i in index] for kind in KINDS}
                means = {kind: mean_defined(np.concatenate([np.zeros(0), *parts])) for kind, parts in chosen.items()}
                found |= {f"{kind}{suffix}": value for kind, value in means.items()}
                found[f"mean{suffix}"] = mean_defined(np.array(list(means.values())))
            return found

        counts = {f"num_{kind}": int(sum((of_case == kind).sum() for of_case in kinds)) for kind in KINDS}
        return {**self.with_intervals(summary, [case["patient_id"] for case in cases]), **counts}
