import json
import math
import multiprocessing
import pickle

import pytest
import torch
import torch.distributed as dist

from ctvlm.evaluation import (
    AlignmentMetric,
    ClassificationMetric,
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
from ctvlm.registry import METRICS
from ctvlm.structures import CoTStep
from tests.test_evaluation.metric_cases import (
    FIRST_REGIONS,
    NAMES,
    PATCH,
    assert_equal_results,
    build,
    evaluate,
    prompts,
    sample,
    scored,
)


@pytest.fixture(scope="module")
def one_rank():
    return evaluate(list(range(11)), 11)


def _rank(rank, world, shares, folder, size):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    try:
        metrics = evaluate(shares[rank], size)
        with open(f"{folder}/rank{rank}", "wb") as file:
            pickle.dump(metrics, file)
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs processes by fork")
@pytest.mark.parametrize(
    "shares",
    [
        # As distributed by mmengine's sampler: equal numbers per rank, with repeats at the end.
        [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 0]],
        [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 0]],
        # Uneven numbers, and repeats that do not come last: truncating the gathered list at 11 would lose cases.
        [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10]],
        [[3, 3, 4, 5, 9], [0, 1, 1, 2, 10], [6, 7, 8, 8, 0]],
    ],
)
def test_results_do_not_depend_on_the_number_of_ranks(shares, one_rank, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # mmengine gathers through a folder in the working directory
    context = multiprocessing.get_context("fork")
    world = len(shares)
    ranks = [context.Process(target=_rank, args=(r, world, shares, tmp_path, 11)) for r in range(world)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(300)
        assert process.exitcode == 0
    for rank in range(world):
        with open(tmp_path / f"rank{rank}", "rb") as file:
            assert_equal_results(pickle.load(file), one_rank)  # noqa: S301 (written by this test)


def test_results_do_not_depend_on_the_order_of_cases(one_rank):
    assert_equal_results(evaluate([5, 9, 0, 3, 1, 2, 10, 8, 7, 6, 4], 11, batch=3), one_rank)


def test_names_and_counts(one_rank):
    expected = {
        "retrieval/t2i_R@1",
        "retrieval/i2t_MRR_low",
        "retrieval/t2i_R@5_chance",
        "retrieval/num_cases",
        "region_text/accuracy_high",
        "region_text/chance",
        "region_text/num_steps",
        "region_retrieval/R@1_chance",
        "step_attention/spearman",
        "step_attention/pointing_chance",
        "localisation/dice",
        "localisation/hit@0.1_low",
        "localisation/nodule/dice",
        "step_attention/slice_error_mm_chance",
        "region_report/BLEU-4_high",
        "region_report/mention_f1",
        f"region_report/{FIRST_REGIONS[0]}/ROUGE-L",
        "report/BLEU-4",
        "report/crg",
        "embedding/modality_gap",
        "zero_shot_ct_clip/f1_weighted",
        "zero_shot_ctvlm/auroc_prevalence_high",
    }
    assert expected <= one_rank.keys()
    assert one_rank["retrieval/num_cases"] == 11
    assert math.isnan(RetrievalMetric(topk=(11,)).score([])["t2i_R@11"])
    assert one_rank["region_text/num_steps"] == 22
    assert one_rank["region_text/accuracy_low"] < one_rank["region_text/accuracy_high"]


def test_all_metrics_are_registered():
    for name in ("RetrievalMetric", "ZeroShotClassificationMetric", "LocalisationMetric", "DumpPredictions"):
        assert METRICS.get(f"ctvlm.{name}") is not None


def test_rejects_equal_ids():
    metric = RetrievalMetric()
    metric.process(None, [sample(0).to_dict(), sample(1).to_dict(), sample(0).to_dict()])
    with pytest.raises(ValueError, match="2 .*case_id.* 3"):
        metric.evaluate(3)


def test_rejects_samples_without_id():
    data = sample(0).to_dict()
    del data["case_id"]
    with pytest.raises(ValueError, match="case_id"):
        RetrievalMetric().process(None, [data])
    with pytest.raises(ValueError, match="RetrievalMetric"):
        RetrievalMetric().compute_metrics([])


def test_reconstructions_and_placeholders_are_excluded():
    samples = [sample(n).to_dict() for n in range(6)]
    for data, case in zip(samples, ("valid_1_a_1", "valid_1_a_2", "valid_1_b_1", "valid_2_a_1", "x", "y"), strict=True):
        data["case_id"] = case
    samples[4]["impression"] = "Not given."
    assert scored(RetrievalMetric(), samples)["retrieval/num_cases"] == 4
    assert scored(RetrievalMetric(one_per_study=False), samples)["retrieval/num_cases"] == 5
    assert "duplicates: strict" in scored(RetrievalMetric(duplicates="strict"), samples)["retrieval/pairing"]
    for data in samples:
        data["impression"] = ""
    metrics = scored(RetrievalMetric(), samples)
    assert metrics.pop("retrieval/num_cases") == 0
    assert all(math.isnan(value) for value in metrics.values() if not isinstance(value, str))


def test_collapsed_embeddings_are_not_better_than_chance():
    samples = [sample(n).to_dict() for n in range(8)]
    for data in samples:
        for key in (
            "pred_volume",
            "pred_impression",
            "pred_regions",
            "pred_steps",
            "pred_patches",
            "pred_step_attention",
        ):
            data[key] = torch.ones_like(data[key])
    metrics = scored(RetrievalMetric(), samples)
    assert metrics["retrieval/t2i_R@1"] <= metrics["retrieval/t2i_R@1_chance"]
    assert scored(RegionTextMetric(), samples)["region_text/accuracy"] == 0
    assert scored(RegionRetrievalMetric(), samples)["region_retrieval/R@1"] == 0
    assert scored(StepTextMetric(), samples)["step_text/auc"] == 0.5
    assert scored(LocalisationMetric(), samples)["localisation/peak_hit"] == 0
    assert scored(EmbeddingHealthMetric(), samples)["embedding/image_effective_rank"] == 0


def test_undefined_scores_are_nan():
    samples = [sample(n).to_dict() for n in range(4)]
    for data in samples:
        data["steps"] = [CoTStep("Nothing."), CoTStep("Else.")]
        data["findings"], data["labels"] = "", {}
    metrics = {}
    classifier = ZeroShotClassificationMetric("vlm3d", NAMES)
    classifier.set_prompt_embeddings(prompts(classifier))
    for metric in (
        RegionTextMetric(),
        RegionRetrievalMetric(),
        StepTextMetric(),
        AlignmentMetric(),
        LocalisationMetric(),
        ReportGenerationMetric(),
        RegionReportMetric(),
        classifier,
    ):
        metrics |= scored(metric, samples)
    counts = {"num_", "findings_scored", "protocol", "threshold_rule"}
    assert all(math.isnan(v) for k, v in metrics.items() if not any(c in k for c in counts))


def test_predicted_instances_below_ten_voxels_are_removed():
    samples = [sample(n).to_dict() for n in range(4)]
    names = [f"localisation/{kind}_f1" for kind in ("instance", "instance_assd", "instance_centroid")]
    for voxels, expected in ((9, 0), (10, 1)):
        for data in samples:
            data["lesion_map"] = torch.zeros(4, 4, 4, dtype=torch.uint8)
            data["lesion_map"].view(-1)[:voxels] = 1
            data["pred_lesion_map"] = data["lesion_map"]
        metrics = scored(LocalisationMetric(), samples)
        assert [metrics[name] for name in names] == [expected] * 3


def test_perfect_masks_and_attention():
    samples = [sample(n).to_dict() for n in range(4)]
    for data in samples:
        data["pred_lesion_map"] = data["lesion_map"]
    metrics = scored(LocalisationMetric(), samples)
    assert metrics["localisation/dice"] == metrics["localisation/hit@0.5"] == 1
    assert metrics["localisation/centroid_distance_mm"] == 0
    for data in samples:
        del data["pred_lesion_map"]
        z, y, x = torch.nonzero(data["lesion_map"])[0] // PATCH
        data["pred_step_attention"] = torch.zeros(2, 8)
        data["pred_step_attention"][0, (z * 2 + y) * 2 + x] = 1
    metrics = scored(LocalisationMetric(), samples)
    assert metrics["localisation/slice_error_mm"] <= 3  # the patch is two slices thick
    assert metrics["localisation/peak_distance_mm"] <= 3 + 1 + 1  # inside the patch with the highest attention


def test_thresholds_of_the_dev_split_are_used_on_the_test_split(tmp_path):
    path = str(tmp_path / "sub" / "thresholds.json")
    dev, test = [sample(n).to_dict() for n in range(20)], [sample(n).to_dict() for n in range(20, 40)]
    for data in (*dev, *test):
        data["pred_probabilities"] = dict(zip(NAMES, torch.rand(3, generator=torch.manual_seed(1)), strict=True))
    scored(ClassificationMetric("ctvlm", NAMES, save_thresholds=path), dev)
    with open(path, encoding="utf-8") as file:
        assert set(json.load(file)) == set(NAMES)
    without = scored(ClassificationMetric("ctvlm", NAMES), test)
    assert math.isnan(without["classification_ctvlm/f1"])
    results = scored(ClassificationMetric("ctvlm", NAMES, thresholds=path, per_finding=True), test)
    assert not math.isnan(results["classification_ctvlm/f1"])
    assert not math.isnan(results["classification_ctvlm/Emphysema/auroc"])
    labelled = sum(data["labels"]["Emphysema"] is not None for data in test)
    assert results["classification_ctvlm/Emphysema/num_cases"] == labelled
    assert results["classification_ctvlm/protocol"] == "ctvlm"
    assert results["classification_ctvlm/threshold_rule"] == ">= best_f1 on dev"
    with pytest.raises(ValueError, match="fvlm.*Lymphadenopathy"):
        ClassificationMetric("fvlm", ["Lymphadenopathy"])
    with pytest.raises(ValueError, match="set_prompt_embeddings"):
        ZeroShotClassificationMetric("ctvlm", NAMES).process(None, [sample(0).to_dict()])
    with pytest.raises(ValueError, match="case_0.*pred_probabilities"):
        ClassificationMetric("ctvlm", NAMES).process(None, [sample(0).to_dict()])
    with pytest.raises(ValueError, match=f"case_0.*{NAMES[1]}"):
        data = {**sample(0).to_dict(), "labels": dict.fromkeys(NAMES, 1), "pred_probabilities": {NAMES[0]: 0.5}}
        ClassificationMetric("ctvlm", NAMES).process(None, [data])


def test_score_of_a_finding_that_is_nan_has_a_reason():
    labels = [dict(zip(NAMES, values, strict=False)) for values in ((0, 1, None, 1), (0, 1, None, 0))]
    samples = [
        dict(case_id=f"case_{i}", labels=label, pred_probabilities=dict.fromkeys(label, 0.5 + i / 10))
        for i, label in enumerate(labels)
    ]
    names = list(labels[0])
    metric = ClassificationMetric("ctvlm", names, per_finding=True)
    metric.process(None, samples)
    results = metric.evaluate(2)
    reasons = [results.get(f"classification_ctvlm/{name}/auroc_reason") for name in names]
    assert reasons == ["no positives", "no negatives", "no labels", None][: len(names)]
    assert results[f"classification_ctvlm/{names[0]}/auroc"] != results[f"classification_ctvlm/{names[0]}/auroc"]


@pytest.mark.parametrize("metric", build(), ids=lambda metric: f"{type(metric).__name__}-{metric.prefix}")
def test_results_without_cases_have_the_same_names_and_are_nan(metric):
    empty = metric.score([])
    cases = [{"case_id": str(n), "patient_id": str(n), **metric.record(sample(n).to_dict())} for n in range(4)]
    metric.bootstrap, metric.per_finding, metric.per_region = 0, False, False
    data_names = {name for name in metric.score(cases) if name not in empty}
    # Names that depend on the data: chance levels, and clinical scores if reports have labels.
    named = {name.rpartition("/")[2] for name in metric.metric_names()}
    assert named >= {name for name in data_names if "chance" not in name}
    assert all("chance" in n or n == "crg" or n.endswith(("_micro", "_macro", "_weighted")) for n in data_names)
    assert set(empty) <= set(metric.score(cases))
    numbers = {n: v for n, v in empty.items() if not isinstance(v, str)}
    assert all(math.isnan(v) or (v == 0 and n.startswith(("num_", "findings_"))) for n, v in numbers.items())
    assert all(name.startswith(f"{metric.prefix or metric.default_prefix}/") for name in metric.metric_names())
