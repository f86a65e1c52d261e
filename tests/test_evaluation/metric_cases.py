"""Predictions of random cases, and every metric that reads them."""

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator

from ctvlm.anatomy import RegionScheme
from ctvlm.evaluation import (
    AlignmentMetric,
    EmbeddingHealthMetric,
    LocalisationMetric,
    RegionReportMetric,
    RegionRetrievalMetric,
    RegionTextMetric,
    ReportGenerationMetric,
    RetrievalMetric,
    StepTextMetric,
    ZeroShotClassificationMetric,
)
from ctvlm.structures import CoTStep, CTDataSample

NAMES = ["Emphysema", "Lung nodule", "Cardiomegaly"]
FIRST_REGIONS = RegionScheme.load().names[:4]
GRID, PATCH, REGIONS, WIDTH = (2, 2, 2), 2, 4, 6


def unit(rng, *shape):
    x = torch.tensor(rng.normal(size=shape), dtype=torch.float32)
    return x / x.norm(dim=-1, keepdim=True)


def sample(number):
    """Predictions of one case; two cases per patient, equal impressions in every seventh case."""
    rng = np.random.default_rng(number)
    image, steps = unit(rng, WIDTH), unit(rng, 2, WIDTH)
    lesions = torch.zeros(4, 4, 4, dtype=torch.uint8)
    lesions[tuple(rng.integers(0, 4, 3))] = 1
    data = CTDataSample(
        metainfo=dict(
            case_id=f"case_{number}", patient_id=f"p{number // 2}", spacing=(3.0, 1.0, 1.0), volume_shape=(4, 4, 4)
        ),
    )
    data.impression, data.findings = f"Impression {number if number % 7 else 0}.", f"Nodule of {number} mm in a lobe."
    data.steps = [
        CoTStep("A nodule.", (1, 2), ("nodule",), 1),
        CoTStep(f"Step {number}.", (3,), ("cyst",) if number % 3 else ()),
    ]
    data.labels = {name: [1, 0, None][int(rng.integers(0, 3))] for name in NAMES}
    data.lesion_map = lesions
    data.patch_occupancy = torch.tensor(rng.dirichlet(np.ones(REGIONS + 1), 8) * (rng.random((8, REGIONS + 1)) < 0.5))
    data.pred_volume = image
    data.pred_impression = image + 0.5 * unit(rng, WIDTH)
    data.pred_regions, data.pred_region_mask = unit(rng, REGIONS, WIDTH), torch.tensor([True, True, True, False])
    data.pred_steps = steps
    data.pred_step_attention, data.pred_grid = torch.tensor(rng.random((2, 8))).softmax(-1), GRID
    data.pred_patches, data.pred_step_scale = unit(rng, 8, WIDTH), 10.0
    data.pred_report = f"A nodule of {number} mm."
    step = {"text": f"A nodule in case {number % 3}.", "regions": [FIRST_REGIONS[number % 4]]}
    data.pred_cot = [step, {"text": "Normal.", "regions": FIRST_REGIONS[2:]}][: number % 3]
    data.pred_report_labels = {name: int(rng.integers(0, 2)) for name in NAMES}
    return data


def prompts(metric):
    """Random embeddings of a metric's prompts."""
    return {text: unit(np.random.default_rng(len(text)), WIDTH) for text in metric.prompts()}


def build():
    metrics = [
        RetrievalMetric(bootstrap=5),
        RegionTextMetric(bootstrap=5),
        RegionRetrievalMetric(bootstrap=5),
        StepTextMetric(bootstrap=5),
        AlignmentMetric(bootstrap=5),
        LocalisationMetric(thresholds=(0.1, 0.5), bootstrap=5, per_finding=True),
        ReportGenerationMetric(bootstrap=5),
        RegionReportMetric(bootstrap=5, per_region=True),
        EmbeddingHealthMetric(),
        *(
            ZeroShotClassificationMetric(protocol, NAMES, thresholds=dict.fromkeys(NAMES, 0.5), bootstrap=5)
            for protocol in ("ct_clip", "ctvlm")
        ),
    ]
    for metric in metrics[-2:]:
        metric.set_prompt_embeddings(prompts(metric), scale=10.0)
    return metrics


def evaluate(numbers, size, batch=2):
    """Results of all metrics on the cases of one process."""
    evaluator = Evaluator(build())
    evaluator.dataset_meta = None
    for start in range(0, len(numbers), batch):
        evaluator.process(data_samples=[sample(n) for n in numbers[start : start + batch]])
    return evaluator.evaluate(size)


def assert_equal_results(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert value == pytest.approx(right[key], abs=1e-6, nan_ok=True), key


def scored(metric, samples):
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def random_dump(noise=0.0, numbers=range(10)):
    """Content of a dump of ten cases of five patients, with noise on the volume embeddings."""
    cases = []
    for number in numbers:
        case = sample(number).to_dict()
        case["pred_volume"] = case["pred_volume"] + noise * unit(np.random.default_rng(1000 + number), WIDTH)
        cases.append(case)
    return dict(cases=cases, prompts={}, scale=1.0, remark="")
