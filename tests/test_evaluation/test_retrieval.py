import numpy as np
import pytest
import torch
from torchmetrics.retrieval import RetrievalHitRate

from ctvlm.evaluation.functional import (
    chance_recall,
    one_per_study,
    pessimistic_ranks,
    region_retrieval_ranks,
    retrieval,
    retrieval_ranks,
    study_of,
    summarise_ranks,
    summarise_region_ranks,
)


def naive_rank(scores, positives):
    """Rank of the best positive behind all negatives with at least the same score."""
    best = max(score for score, positive in zip(scores, positives, strict=True) if positive)
    return 1 + sum(score >= best for score, positive in zip(scores, positives, strict=True) if not positive)


def test_ranks_equal_a_naive_loop():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.integers(0, 4, (6, 9)).astype(float)
        positives = rng.random((6, 9)) < 0.3
        positives[np.arange(6), rng.integers(0, 9, 6)] = True
        assert pessimistic_ranks(scores, positives).tolist() == [
            naive_rank(s, p) for s, p in zip(scores, positives, strict=True)
        ]


def test_constant_embeddings_rank_last():
    constant = np.ones((5, 3))
    assert retrieval_ranks(constant, constant, list("abcde")).tolist() == [5] * 5


def test_duplicates():
    embeddings = np.eye(4)
    swapped = embeddings[[1, 0, 2, 3]]
    texts = ["same", "same", "c", "d"]
    assert (retrieval_ranks(embeddings, swapped, texts, "hit") <= 1).all()
    assert (retrieval_ranks(embeddings, swapped, texts, "strict") <= 1).tolist() == [False, False, True, True]
    assert len(retrieval_ranks(embeddings, embeddings, texts, "first")) == 3
    with pytest.raises(ValueError, match="duplicates.*other"):
        retrieval_ranks(embeddings, embeddings, texts, "other")


def test_ranks_do_not_depend_on_the_order_of_cases():
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(30, 8)), rng.normal(size=(30, 8))
    texts = [str(i % 25) for i in range(30)]
    order = rng.permutation(30)
    ranks = retrieval_ranks(image, text, texts)
    shuffled = retrieval_ranks(image[order], text[order], [texts[i] for i in order])
    assert ranks[order].tolist() == shuffled.tolist()


def test_rejects_nan():
    with pytest.raises(ValueError, match="NaN"):
        retrieval_ranks(np.full((2, 2), np.nan), np.eye(2), ["a", "b"])


def test_summary():
    summary = summarise_ranks(np.array([1, 2, 11, 1]), topk=(1, 10))
    assert summary == pytest.approx({"R@1": 0.5, "R@10": 0.75, "MedR": 1.5, "MRR": (1 + 0.5 + 1 / 11 + 1) / 4})


def test_recall_equals_torchmetrics():
    rng = np.random.default_rng(1)
    for _ in range(200):
        size = int(rng.integers(3, 12))
        scores, k = torch.tensor(rng.permuted(np.arange(size * size)).reshape(size, size) / 10), int(rng.integers(1, 4))
        index = torch.arange(size)[:, None].expand(size, size)
        expected = RetrievalHitRate(top_k=k)(scores, torch.eye(size, dtype=torch.int), indexes=index).item()
        ranks = pessimistic_ranks(scores.numpy(), np.eye(size, dtype=bool))
        assert summarise_ranks(ranks, (k,))[f"R@{k}"] == pytest.approx(expected, abs=1e-6)
        naive = np.mean([1 / (1 + (row > row[i]).sum()) for i, row in enumerate(scores.numpy())])
        assert summarise_ranks(ranks)["MRR"] == pytest.approx(naive, abs=1e-9)


def test_ranks_do_not_depend_on_the_chunk_size(monkeypatch):
    rng = np.random.default_rng(2)
    image, text, texts = rng.normal(size=(50, 8)), rng.normal(size=(50, 8)), [str(i % 40) for i in range(50)]
    whole = retrieval_ranks(image, text, texts)
    monkeypatch.setattr(retrieval, "_CHUNK", 7)
    assert retrieval_ranks(image, text, texts).tolist() == whole.tolist()


def test_constant_embeddings_rank_last_in_float32():
    # Rounding errors of a matrix product depend on the position of a row in the matrix.
    constant = np.tile(np.random.default_rng(0).normal(size=(1, 67)).astype(np.float32), (203, 1))
    assert set(retrieval_ranks(constant, constant, [str(i) for i in range(203)])) == {203}


def test_recall_of_duplicates():
    """A perfect model on 100 pairs, 14 of which have the text of another pair."""
    rng = np.random.default_rng(3)
    texts = [str(i) for i in range(86)] + [str(i) for i in range(14)]
    by_text = rng.normal(size=(86, 16))[[int(text) for text in texts]]
    by_text /= np.linalg.norm(by_text, axis=1, keepdims=True)
    recall = {
        duplicates: summarise_ranks(retrieval_ranks(by_text, by_text, texts, duplicates), (1,))["R@1"]
        for duplicates in ("hit", "first", "strict")
    }
    # strict: the 28 pairs whose text occurs twice tie with the other pair.
    assert recall == {"hit": 1.0, "first": 1.0, "strict": 0.72}


@pytest.mark.parametrize("duplicates", ["hit", "first", "strict"])
def test_random_embeddings_are_at_chance_level(duplicates):
    rng = np.random.default_rng(4)
    texts = [str(min(i, 30)) for i in range(40)]
    chance = chance_recall(texts, (1, 5), duplicates)
    got = [
        summarise_ranks(retrieval_ranks(*rng.normal(size=(2, 40, 8)), texts, duplicates), (1, 5)) for _ in range(200)
    ]
    for name in ("R@1", "R@5"):
        assert np.mean([g[name] for g in got]) == pytest.approx(chance[name], abs=0.025)


def test_recall_at_the_gallery_size_is_nan():
    summary = summarise_ranks(np.array([1, 2, 5]), topk=(1, 5, 10), gallery_size=5)
    assert summary["R@1"] == pytest.approx(1 / 3)
    assert np.isnan([summary["R@5"], summary["R@10"]]).all()
    assert np.isnan(chance_recall(list("abcde"), (5,))["R@5"])


def test_no_queries():
    empty = np.zeros((0, 4))
    assert np.isnan(list(summarise_ranks(retrieval_ranks(empty, empty, [])).values())).all()


def test_one_reconstruction_per_study():
    names = ["valid_1_a_10", "valid_1_a_2.nii.gz", "valid_1_b_1", "valid_2_a_1", "phantom_3_1"]
    assert [names[i] for i in one_per_study(names)] == [names[1], names[2], names[3], names[4]]
    assert [names[::-1][i] for i in one_per_study(names[::-1])] == [names[4], names[3], names[2], names[1]]
    assert one_per_study(names, ["s"] * 5).tolist() == [4]
    assert one_per_study(names, ["s"] * 5, [True] * 4 + [False]).tolist() != [4]
    assert one_per_study(names, ["s"] * 5, [False] * 5).tolist() == [4]
    assert study_of("train_7_c_2") == "train_7_c"


def test_region_retrieval_equals_retrieval_of_each_region():
    rng = np.random.default_rng(5)
    for _ in range(200):
        size = 12
        text, region = rng.normal(size=(2, size, 4))
        regions, words = rng.integers(1, 4, size), [str(w) for w in rng.integers(0, 8, size)]
        scored, ranks, sizes = region_retrieval_ranks(text, region, regions, words)
        for r in (1, 2, 3):
            own = np.flatnonzero(regions == r)
            if len({words[i] for i in own}) < 2:
                assert not set(own) & set(scored)
                continue
            expected = retrieval_ranks(text[own], region[own], [words[i] for i in own])
            assert ranks[np.isin(scored, own)].tolist() == expected.tolist()
            assert (sizes[np.isin(scored, own)] == len(own)).all()


def test_region_summary_weights_regions_equally():
    summary = summarise_region_ranks(np.array([1, 1, 1, 2]), np.array([3, 3, 3, 2]), np.array([1, 1, 1, 2]))
    assert summary["R@1"] == 0.5
    assert summary["percentile"] == 0.5
    assert summary["R@1_chance"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert np.isnan(list(summarise_region_ranks(np.zeros(0), np.zeros(0), np.zeros(0)).values())).all()
