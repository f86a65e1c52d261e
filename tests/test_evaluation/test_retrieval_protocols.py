import math

import numpy as np
import pytest

from ctvlm.evaluation import ImageRetrievalMetric, PoolRetrievalMetric, RetrievalMetric, SliceLocalisationMetric
from ctvlm.evaluation.functional import image_map, pool_recall, retrieval_ranks, slice_localisation


def unit(rng, *shape):
    vectors = rng.normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def with_copies(seed, size=24):
    """Texts, volumes (one third are copies of others), and labels."""
    rng = np.random.default_rng(seed)
    text, image = unit(rng, size, 5), unit(rng, size, 5)
    image[size // 3 : 2 * (size // 3)] = image[: size // 3]
    return text, image, (rng.random((size, 3)) < 0.4).astype(int)


def top(query, gallery, k):
    """First k items by dot product, ties in order; exact sums, so that copies tie."""
    scores = [math.fsum(a * b for a, b in zip(query, item, strict=True)) for item in gallery]
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]


def test_ties_in_order():
    for seed in range(30):
        text, image, _ = with_copies(seed)
        ranks = retrieval_ranks(text, image, range(len(text)), "strict", ties="order")
        for k in (1, 5, 10):
            assert [r <= k for r in ranks] == [i in top(t, image, k) for i, t in enumerate(text)]
    constant = np.ones((7, 3)) / math.sqrt(3)
    assert retrieval_ranks(constant, constant, range(7), "strict", ties="order").tolist() == list(range(1, 8))


def naive_ct_clip(image, labels, ks):
    abnormal = [i for i in range(len(labels)) if labels[i].any()]
    collected, out = [], {}
    for k in ks:  # the published list is not reset between the values of k
        for i, query in enumerate(image):
            near = [abnormal[j] for j in top(query, image[abnormal], k)]
            pairs = [(labels[i] & labels[j], labels[i] | labels[j]) for j in near]
            collected.append(np.mean([both.sum() / either.sum() for both, either in pairs]))
        out[f"MAP@{k}"] = np.mean(collected)
    return out


def naive_average_precision(ranked, relevant, k, divisor):
    hits, total = 0, 0.0
    for rank, j in enumerate(ranked[:k], 1):
        if j in relevant:
            hits += 1
            total += hits / rank
    return total / divisor


def naive_spectre(image, labels, k):
    values = []
    for i, query in enumerate(image):
        relevant = {j for j in range(len(labels)) if j != i and (labels[j] == labels[i]).all()}
        ranked = [j for j in top(query, image, len(image)) if j != i]
        if relevant:
            values.append(naive_average_precision(ranked, relevant, k, min(len(relevant), k)))
    return np.mean(values)


def naive_radfinder(image, labels, k):
    abnormal = [i for i in range(len(labels)) if labels[i].any()]
    values = []
    for i in abnormal:
        others = [j for j in abnormal if j != i]
        ranked = [others[j] for j in top(image[i], image[others], len(others))]
        values.append(naive_average_precision(ranked, {j for j in others if (labels[i] & labels[j]).any()}, k, k))
    return np.mean(values)


def test_image_to_image_equals_the_published_rules():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image, labels = unit(rng, 20, 4), (rng.random((20, 3)) < 0.4).astype(int)
        expected = naive_ct_clip(image, labels, (1, 5, 10))
        assert image_map(image, labels, (1, 5, 10), "ct_clip") == pytest.approx(expected, abs=1e-9)
        for rule, naive in (("spectre", naive_spectre), ("radfinder", naive_radfinder)):
            expected = {f"MAP@{k}": naive(image, labels, k) for k in (1, 5, 10)}
            assert image_map(image, labels, (1, 5, 10), rule) == pytest.approx(expected, abs=1e-9)
    with pytest.raises(ValueError, match="1 and 0"):
        image_map(image, labels * 2, (1,), "spectre")


@pytest.mark.parametrize("keep_rest", [False, True])
def test_pools_equal_a_naive_loop(keep_rest):
    text, image, _ = with_copies(0, 21)
    rng, values = np.random.default_rng(42), []
    for _ in range(5):
        order = np.arange(21)
        rng.shuffle(order)
        pools = [order[s : s + 8] for s in range(0, 21, 8)]
        pools = [pool for pool in pools if keep_rest or len(pool) == 8]
        values.append(np.mean([i in top(text[pool[i]], image[pool], 2) for pool in pools for i in range(len(pool))]))
    got = pool_recall(text, image, 8, (2,), repeats=5, keep_rest=keep_rest)
    assert got["R@2"] == pytest.approx(np.mean(values))
    assert math.isnan(pool_recall(text, image, 32)["R@1"])


def test_slice_localisation_uses_positions_of_12_mm():
    got = slice_localisation([0, 13, 30, 100], [5, 11, 5, 40])  # 0, 1, 2 and 5 positions
    assert got == {"mae_mm": 24, "median_mm": 18, "within_12mm": 0.5, "within_24mm": 0.75}
    assert np.isnan(list(slice_localisation([], []).values())).all()


def cases(size=36):
    text, image, labels = with_copies(1, size)
    lesions, attention = np.zeros((8, 2, 2), dtype=np.uint8), np.zeros((2, 4))
    lesions[5] = attention[:, 2] = 1
    return [
        dict(
            case_id=f"valid_{i // 2}_a_{i % 2 + 1}", pred_volume=image[i], pred_impression=text[i],
            impression="Not given." if i < 4 else f"text {i}", labels=dict(zip("abc", labels[i].tolist(), strict=True)),
            lesion_map=lesions, steps=[dict(lesion=1), dict(lesion=None)], spacing=(3.0, 1, 1),
            pred_step_attention=attention, pred_grid=(4, 1, 1),
        )
        for i in range(size)
    ]  # fmt: skip


def scored(metric):
    samples = cases()
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_metrics_report_protocol_and_number_of_cases():
    for metric, prefix, protocol, number in (
        (RetrievalMetric(protocol="ct_clip", bootstrap=5), "retrieval_ct_clip", "ct_clip", 36),
        (RetrievalMetric(protocol="spectre"), "retrieval_spectre", "spectre", 18),
        (RetrievalMetric(), "retrieval", "ctvlm", 16),
        (PoolRetrievalMetric("radfinder"), "pool_retrieval_radfinder", "radfinder", 18),
        (ImageRetrievalMetric("ct_clip", "abc"), "image_retrieval_ct_clip", "ct_clip", 36),
        (ImageRetrievalMetric("spectre", "abc"), "image_retrieval_spectre", "spectre", 18),
    ):
        metrics = scored(metric)
        assert (metrics[f"{prefix}/num_cases"], metrics[f"{prefix}/protocol"]) == (number, protocol)
    for metric in (
        RetrievalMetric(protocol="spectre", prefix="own"),
        PoolRetrievalMetric("radfinder", prefix="own"),
        ImageRetrievalMetric("spectre", names="abc", prefix="own"),
    ):
        assert all(name.startswith("own/") for name in scored(metric))
    metrics = scored(SliceLocalisationMetric(bootstrap=5))
    # Target and prediction differ from RadFinder's, so the protocol has another name.
    assert (metrics["slice_localisation/num_steps"], metrics["slice_localisation/protocol"]) == (36, "ctvlm")
    assert metrics["slice_localisation/mae_mm"] == 0  # layer 2 of four, 12 to 18 mm; the lesion's slice is at 16.5 mm


def test_recall_equals_the_script_of_ct_clip():
    samples = cases()
    text, image = (np.stack([s[key] for s in samples]) for key in ("pred_impression", "pred_volume"))
    metrics = scored(RetrievalMetric(protocol="ct_clip"))
    for k in (5, 10):
        hits = [i in top(t, image, k) for i, t in enumerate(text)]
        assert metrics[f"retrieval_ct_clip/t2i_R@{k}"] == pytest.approx(np.mean(hits))


def test_published_protocols_do_not_accept_options():
    with pytest.raises(ValueError, match="ct_clip.*topk"):
        RetrievalMetric(protocol="ct_clip", topk=(1,))
    with pytest.raises(ValueError, match="PoolRetrievalMetric"):
        RetrievalMetric(protocol="merlin")
    with pytest.raises(ValueError, match="ct_clip.*merlin"):
        PoolRetrievalMetric("ct_clip")
    with pytest.raises(ValueError, match="merlin.*ct_clip"):
        ImageRetrievalMetric("merlin")
