"""Keys that metrics read, and dumps of predictions with these keys."""

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator

from ctvlm.evaluation import (
    ClassificationMetric,
    DumpPredictions,
    EmbeddingHealthMetric,
    ImageRetrievalMetric,
    PoolRetrievalMetric,
    RegionTextMetric,
    ReportGenerationMetric,
    RetrievalMetric,
    SliceLocalisationMetric,
    VLM3DReportMetric,
    load_dump,
    needed_keys,
    save_dump,
)
from tests.test_evaluation.metric_cases import (
    NAMES,
    assert_equal_results,
    build,
    evaluate,
    prompts,
    sample,
    scored,
    unit,
)


@pytest.fixture(scope="module")
def one_rank():
    return evaluate(list(range(11)), 11)


def test_a_dump_has_the_same_scores(tmp_path, one_rank):
    path = tmp_path / "sub" / "dump.pt"
    metric = DumpPredictions(str(path), protocols=["ct_clip", "ctvlm"], names=NAMES)
    metric.set_prompt_embeddings(prompts(metric), scale=10.0)
    metric.set_remark("trained on other data")
    evaluator = Evaluator([metric])
    evaluator.process(data_samples=[sample(n) for n in range(11)])
    assert evaluator.evaluate(11) == {"dump/num_cases": 11}
    dump = load_dump(path)
    assert torch.equal(dump["cases"][3]["lesion_map"], sample(3).lesion_map)
    assert dump["remark"] == "trained on other data"
    metrics = {}
    for metric in build():
        if hasattr(metric, "set_prompt_embeddings"):
            metric.set_prompt_embeddings(dump["prompts"], dump["scale"])
        metrics |= scored(metric, dump["cases"])
    assert_equal_results(metrics, one_rank)


def test_a_retrieval_dump_is_small_and_has_the_same_scores(tmp_path):
    """A case of the base preset has 16,384 patches: 16.8 MB with all predictions."""
    rng, patches = np.random.default_rng(0), torch.zeros(16384, 512, dtype=torch.float16)
    cases = [sample(n).to_dict() | dict(pred_patches=patches) for n in range(8)]
    for case in cases:
        case["pred_volume"], case["pred_impression"] = unit(rng, 512), unit(rng, 512)
    metrics = [RetrievalMetric(topk=(1, 5)), EmbeddingHealthMetric()]
    path = tmp_path / "dump.pt"
    scored(DumpPredictions(str(path), keys=needed_keys(metrics)), cases)
    assert path.stat().st_size / len(cases) < 10_000
    dumped = load_dump(path)["cases"]
    for metric in metrics:
        assert scored(metric, dumped) == scored(metric, cases)
    assert RegionTextMetric().missing_keys(dumped[0]) == ["pred_region_mask", "pred_regions", "pred_steps", "steps"]


class ReadKeys(dict):
    """A data sample that records the keys that are read."""

    def __init__(self, sample):
        super().__init__(sample)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.read.add(key)
        return super().get(key, default)


@pytest.mark.parametrize(
    "metric",
    [
        *build(),
        ClassificationMetric("ctvlm", NAMES),
        ImageRetrievalMetric("spectre", NAMES),
        PoolRetrievalMetric("spectre"),
        ReportGenerationMetric(reference="both", label_reports=True),
        SliceLocalisationMetric(),
        VLM3DReportMetric(label_reports=True),
    ],
    ids=lambda metric: metric.prefix or metric.default_prefix,
)
def test_metrics_declare_what_they_read(metric):
    data = sample(1).to_dict() | dict(labels=dict.fromkeys(NAMES, 1), pred_probabilities=dict.fromkeys(NAMES, 0.5))
    case = ReadKeys(data)
    metric.record(case)
    assert case.read <= metric.needs | {"case_id", "patient_id"}
    assert metric.optional_needs <= metric.needs
    record = metric.record({key: data[key] for key in (*metric.needs, "case_id") if key in data})
    assert record is not None
    assert metric.missing_keys(data) == []


def test_version_1_of_a_dump_still_loads(tmp_path):
    path = tmp_path / "old.pt"
    save_dump(path, [{"case_id": "a", "pred_image": torch.ones(3)}])
    content = torch.load(path, weights_only=True) | {"version": 1}
    torch.save(content, path)
    case = load_dump(path)["cases"][0]
    assert case.keys() == {"case_id", "pred_volume"}
    torch.save(content | {"version": 99}, path)
    with pytest.raises(ValueError, match=r"old\.pt.*99"):
        load_dump(path)


def test_rejects_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        load_dump(tmp_path / "none.pt")
    (tmp_path / "a.pt").write_bytes(b"x")
    torch.save({"state_dict": {}}, tmp_path / "b.pt")
    torch.save({"x": sample(0)}, tmp_path / "c.pt")  # contains a pickled class
    for name in ("a.pt", "b.pt", "c.pt"):
        with pytest.raises(ValueError, match=name):
            load_dump(tmp_path / name)
    with pytest.raises(ValueError, match="x: odd.*object"):
        save_dump(tmp_path / "d.pt", [{"case_id": "x", "odd": object()}])
    assert not list(tmp_path.glob("*d.pt"))
