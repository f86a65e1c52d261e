"""Metrics exclude cases and steps with empty text and report the number of scored ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ctvlm.evaluation import (
    AlignmentMetric,
    EmbeddingHealthMetric,
    LocalisationMetric,
    PoolRetrievalMetric,
    RegionRetrievalMetric,
    RegionTextMetric,
    RetrievalMetric,
    StepTextMetric,
)
from ctvlm.evaluation.functional import one_per_study
from ctvlm.structures import CoTStep


def sample(case: int, impression: str, texts: list[str]) -> dict:
    generator = torch.Generator().manual_seed(case)

    def unit(*shape):
        return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)

    steps = [CoTStep(t, regions=(1 + s % 2,), entities=(f"finding {case % 2}",), lesion=1) for s, t in enumerate(texts)]
    return dict(
        case_id=f"case {case}",
        patient_id=f"patient {case}",
        impression=impression,
        steps=steps,
        spacing=(5.0, 5.0, 5.0),
        volume_shape=(4, 4, 4),
        lesion_map=torch.ones(4, 4, 4, dtype=torch.uint8),
        pred_volume=unit(6),
        pred_impression=unit(6) if impression.strip() else None,
        pred_regions=unit(2, 6),
        pred_region_mask=torch.ones(2, dtype=torch.bool),
        pred_steps=unit(len(texts), 6),
        pred_patches=unit(8, 6),
        pred_step_scale=10.0,
        pred_step_attention=unit(len(texts), 8).abs(),
        pred_grid=(2, 2, 2),
        patch_occupancy=torch.eye(3)[torch.arange(8) % 3],
    )


def samples() -> list[dict]:
    return [
        sample(0, "Nodule.", ["a", "b"]),
        sample(1, "", ["a", " "]),
        sample(2, " \n", ["", ""]),
        sample(3, "Effusion.", ["c", "d"]),
    ]


@pytest.mark.parametrize(
    ("metric", "count"),
    [
        (RetrievalMetric(topk=(1,)), ("retrieval/num_cases", 2)),
        (EmbeddingHealthMetric(), ("embedding/num_cases", 2)),
        (RegionTextMetric(), ("region_text/num_steps", 5)),
        (AlignmentMetric(), ("step_attention/num_steps", 5)),
        (LocalisationMetric(), ("localisation/num_findings", 5)),
        (StepTextMetric(), ("step_text/num_steps", 5)),
        (RegionRetrievalMetric(), ("region_retrieval/num_mentions", 5)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("plain", [False, True])
def test_empty_texts_are_excluded(metric, count, plain):
    data = samples()
    if plain:  # as in a dump
        data = [case | dict(steps=[dataclasses.asdict(step) for step in case["steps"]]) for case in data]
    metric.process(None, data)
    scores = metric.evaluate(len(data))
    assert scores[count[0]] == count[1]


def test_a_head_series_does_not_represent_a_chest_scan():
    """Reconstruction 1 is a head series in seven of CT-RATE's validation scans."""
    texts = ["Nodule.", "Nodule.", "Effusion."]
    samples = [sample(i, text, ["a"]) for i, text in enumerate(texts)]
    for item, name, sets in zip(samples, ("valid_257_a_1", "valid_257_a_2", "valid_3_a_1"), (["all"], ["nohead"], ())):
        item.update(case_id=name, sets=sets)
    metric = RetrievalMetric()
    metric.process(None, samples)
    cases = [record["record"] | {"case_id": record["case_id"]} for record in metric.results]
    index = one_per_study(*([case[key] for case in cases] for key in ("case_id", "study", "represents_study")))
    assert [cases[i]["case_id"] for i in index] == ["valid_257_a_2", "valid_3_a_1"]


def test_pools_exclude_cases_without_an_impression():
    metric = PoolRetrievalMetric("radfinder")
    metric.process(None, samples())
    assert metric.evaluate(4)["pool_retrieval_radfinder/num_cases"] == 2
