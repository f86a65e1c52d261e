import numpy as np
import pytest

from ctvlm.evaluation.functional import pessimistic_ranks, retrieval_ranks, summarise_ranks


def naive_rank(scores, positives):
    """Best positive, against every negative that scores at least as much."""
    best = max(score for score, positive in zip(scores, positives, strict=True) if positive)
    return 1 + sum(score >= best for score, positive in zip(scores, positives, strict=True) if not positive)


@pytest.mark.parametrize("seed", range(20))
def test_ranks_equal_naive_loop(seed):
    rng = np.random.default_rng(seed)
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
    with pytest.raises(ValueError, match="'hit', 'first' or 'strict'"):
        retrieval_ranks(embeddings, embeddings, texts, "other")


def test_order_of_cases_does_not_matter():
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(30, 8)), rng.normal(size=(30, 8))
    texts = [str(i % 25) for i in range(30)]
    order = rng.permutation(30)
    ranks = retrieval_ranks(image, text, texts)
    shuffled = retrieval_ranks(image[order], text[order], [texts[i] for i in order])
    assert ranks[order].tolist() == shuffled.tolist()


def test_refuses_nan():
    with pytest.raises(ValueError, match="NaN"):
        retrieval_ranks(np.full((2, 2), np.nan), np.eye(2), ["a", "b"])


def test_summary():
    summary = summarise_ranks(np.array([1, 2, 11, 1]), topk=(1, 10))
    assert summary == pytest.approx({"R@1": 0.5, "R@10": 0.75, "MedR": 1.5, "MRR": (1 + 0.5 + 1 / 11 + 1) / 4})
