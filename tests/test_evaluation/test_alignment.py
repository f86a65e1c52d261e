import math

import numpy as np
import pytest
from scipy.stats import rankdata

from ctvlm.evaluation.functional import attention_auroc, attention_spearman, pointing_game, region_text_hits

REGIONS = np.eye(4)


def test_hit_if_the_most_similar_region_is_mentioned():
    texts = np.array([REGIONS[0], REGIONS[2], REGIONS[3]])
    hits, chances = region_text_hits(texts, REGIONS, np.ones(4, bool), [{1}, {1, 2}, {3, 4}])
    assert hits.tolist() == [True, False, True]
    assert chances.tolist() == [0.25, 0.5, 0.5]


def test_regions_outside_the_volume_are_excluded():
    texts = np.array([REGIONS[0], REGIONS[1]])
    visible = np.array([True, False, True, True])
    hits, chances = region_text_hits(texts, REGIONS, visible, [{1}, {2}])
    assert hits.tolist() == [True]
    assert chances.tolist() == [1 / 3]


def test_constant_embeddings_are_misses():
    constant = np.ones((4, 4))
    hits, _ = region_text_hits(constant, constant, np.ones(4, bool), [{1}, {2}, {3}, {1, 4}])
    assert not hits.any()


def test_text_without_regions_is_excluded():
    hits, chances = region_text_hits(REGIONS[:1], REGIONS, np.ones(4, bool), [set()])
    assert len(hits) == len(chances) == 0


def test_hits_equal_a_naive_loop():
    rng = np.random.default_rng(2)
    for _ in range(200):
        texts, regions = rng.integers(-2, 3, (4, 3)).astype(float), rng.integers(-2, 3, (5, 3)).astype(float)
        visible = rng.random(5) < 0.7
        mentions = [set(rng.choice(5, rng.integers(0, 4), replace=False) + 1) for _ in range(4)]
        expected, chances = [], []
        for text, mentioned in zip(texts, mentions, strict=True):
            candidates = [r for r in range(1, 6) if visible[r - 1]]
            correct = [r for r in candidates if r in mentioned]
            if correct:
                score = {r: float(regions[r - 1] @ text) for r in candidates}
                best = max(score[r] for r in correct)
                expected.append(all(best > score[o] for o in candidates if o not in correct))
                chances.append(len(correct) / len(candidates))
        hits, got = region_text_hits(texts, regions, visible, mentions)
        assert hits.tolist() == expected
        assert got == pytest.approx(chances)


def maps(number=200, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(number):
        size = int(rng.integers(3, 30))
        occupancy = rng.integers(0, 3, size) / 2
        occupancy[:2] = 0, 1
        attention = rng.integers(0, 9, size) / 9
        attention[0] = attention[1] + 1
        yield attention, occupancy


def test_correlation_equals_pearson_of_ranks():
    for attention, occupancy in maps():
        expected = np.corrcoef(rankdata(attention), rankdata(occupancy))[0, 1]
        assert attention_spearman(attention, occupancy) == pytest.approx(expected, abs=1e-9)


def test_auroc_and_pointing_equal_naive_loops():
    for attention, occupancy in maps(seed=1):
        inside, outside = attention[occupancy > 0.5], attention[occupancy <= 0.5]
        wins = np.mean([(a > b) + 0.5 * (a == b) for a in inside for b in outside])
        assert attention_auroc(attention, occupancy, min_share=0.5) == pytest.approx(wins, abs=1e-9)
        hit, chance = pointing_game(attention, occupancy, min_share=0.5)
        assert hit == (outside.max() < attention.max())
        assert chance == np.mean(occupancy > 0.5)


def test_masked_patches_are_excluded():
    attention, occupancy = np.array([0.1, 0.9, 0.5, 9.0]), np.array([0, 1, 0.5, 0])
    mask = np.array([True, True, True, False])
    assert attention_spearman(attention, occupancy, mask) == pytest.approx(1)
    assert attention_auroc(attention, occupancy, mask) == 1
    assert pointing_game(attention, occupancy, mask) == (1, pytest.approx(2 / 3))
    assert pointing_game(attention, occupancy)[0] == 0


def test_constant_attention_is_at_chance_or_undefined():
    flat, occupancy = np.full(5, 0.2), np.array([0, 1, 1, 0, 0.0])
    assert math.isnan(attention_spearman(flat, occupancy))
    assert attention_auroc(flat, occupancy) == 0.5
    assert pointing_game(flat, occupancy)[0] == 0


@pytest.mark.parametrize("occupancy", [np.zeros(4), np.ones(4)])
def test_undefined_if_all_patches_or_none_are_inside(occupancy):
    attention = np.arange(4.0)
    values = (attention_spearman(attention, occupancy), attention_auroc(attention, occupancy))
    assert all(math.isnan(value) for value in (*values, *pointing_game(attention, occupancy)))


def test_rejects_nan_and_different_grids():
    for bad in (np.array([[np.nan] * 4]), np.array([[np.inf] * 4])):
        with pytest.raises(ValueError, match="NaN"):
            region_text_hits(bad, REGIONS, np.ones(4, bool), [{1}])
        with pytest.raises(ValueError, match="NaN"):
            region_text_hits(REGIONS[:1], np.repeat(bad, 4, axis=0), np.ones(4, bool), [{1}])
    with pytest.raises(ValueError, match="NaN"):
        attention_auroc(np.array([np.nan, 1]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"\(3,\).*\(4,\)"):
        attention_spearman(np.ones(3), np.ones(4))
