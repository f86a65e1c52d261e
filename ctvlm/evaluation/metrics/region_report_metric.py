"""Scores of generated reports for each region."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ctvlm.anatomy import region_names_of
from ctvlm.evaluation.functional.protocols import mean_defined
from ctvlm.evaluation.functional.region_reports import mention_scores, paired_region_texts, region_texts
from ctvlm.evaluation.functional.report_generation import ROUGE, bleu_counts, bleu_of_counts, rouge_per_report
from ctvlm.evaluation.metrics.case_metric import CaseMetric, step_field, step_regions
from ctvlm.registry import METRICS

_BLEU = tuple(f"BLEU-{n}" for n in range(1, 5))


@METRICS.register_module()
class RegionReportMetric(CaseMetric):
    """BLEU and ROUGE between the generated and the reference text of each region, averaged over regions.

    Evaluation by region as in Reg2RG (Chen et al., "Large Language Model with Region-Guided Referring and Grounding
    for CT Report Generation", 2024). Reads ``steps``, ``pred_cot`` (list of dicts with ``text`` and ``regions``, region
    names) and ``region_names`` (or ``scheme``). The text of a region consists of all steps that mention it. Pairs are
    the (case, region) that the reference mentions; the generated text is empty if the model does not mention the
    region. BLEU is the corpus BLEU of a region, ROUGE its mean. ``mention_precision``, ``mention_recall`` and
    ``mention_f1`` score the mentioned regions.

    Args:
        abnormal_only: exclude pairs whose reference steps are all normal.
        per_region: also report BLEU-4, ROUGE-L and the number of pairs of each region.
    """

    default_prefix = "region_report"
    needs = frozenset({"steps", "pred_cot", "region_names", "scheme"})
    optional_needs = frozenset({"region_names", "scheme"})

    def __init__(self, abnormal_only: bool = False, per_region: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.abnormal_only = abnormal_only
        self.per_region = per_region

    def record(self, sample: dict) -> dict[str, Any] | None:
        region_names = region_names_of(sample)
        ids = {name: region for region, name in enumerate(region_names, start=1)}
        steps = [(step_field(step, "text"), step_regions(step)) for step in sample["steps"]]
        unknown = sorted({name for step in sample["pred_cot"] for name in step["regions"]} - set(ids))
        if unknown:
            raise ValueError(f"Case {sample['case_id']}: found regions {unknown} in pred_cot; expected {list(ids)}.")
        predicted = [(step["text"], {ids[name] for name in step["regions"]}) for step in sample["pred_cot"]]
        pairs = paired_region_texts(predicted, steps)
        if self.abnormal_only:
            abnormal = {r for step in sample["steps"] if not step_field(step, "normal") for r in step_regions(step)}
            pairs = [pair for pair in pairs if pair[0] in abnormal]
        generated, expected = set(region_texts(predicted)), set(region_texts(steps))
        return {
            "regions": [region for region, _, _ in pairs],
            "names": {region: region_names[region - 1] for region, _, _ in pairs},
            "generated": [text for _, text, _ in pairs],
            "reference": [text for _, _, text in pairs],
            "mentions": (len(generated & expected), len(generated), len(expected)),
        }

    def score(self, cases: list[dict[str, Any]]) -> dict[str, float]:
        texts = {key: [text for case in cases for text in case[key]] for key in ("generated", "reference")}
        regions_M = np.array([region for case in cases for region in case["regions"]], dtype=int)
        owner_M = np.array([number for number, case in enumerate(cases) for _ in case["regions"]], dtype=int)
        bleu_M = bleu_counts(texts["generated"], texts["reference"])
        rouge_M = rouge_per_report(texts["generated"], texts["reference"])
        of_case = [np.flatnonzero(owner_M == number) for number in range(len(cases))]
        mentions_N3 = np.array([case["mentions"] for case in cases], dtype=float).reshape(-1, 3)

        def by_region(rows: np.ndarray) -> Iterator[tuple[int, int, dict[str, float]]]:
            for region in np.unique(regions_M[rows]):
                own = rows[regions_M[rows] == region]
                scores = bleu_of_counts(bleu_M[own].sum(axis=0), len(own))
                yield region, len(own), scores | {name: float(values[own].mean()) for name, values in rouge_M.items()}

        def summary(index: np.ndarray) -> dict[str, float]:
            rows = np.concatenate([np.zeros(0, dtype=int), *(of_case[i] for i in index)])
            scores = [scores for _, _, scores in by_region(rows)]
            means = {name: mean_defined(np.array([s[name] for s in scores])) for name in (*_BLEU, *ROUGE)}
            return means | mention_scores(*mentions_N3[index].sum(axis=0))

        metrics = self.with_intervals(summary, [case["patient_id"] for case in cases])
        if self.per_region:
            names = {region: name for case in cases for region, name in case["names"].items()}
            for region, number, scores in by_region(np.arange(len(regions_M))):
                metrics |= {f"{names[region]}/{name}": scores[name] for name in ("BLEU-4", "ROUGE-L")}
                metrics[f"{names[region]}/num_pairs"] = number
        return {**metrics, "num_pairs": len(regions_M)}
