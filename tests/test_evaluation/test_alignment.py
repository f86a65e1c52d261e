import numpy as np

from ctvlm.evaluation.functional import region_text_hits

REGIONS = np.eye(4)


def test_hit_needs_a_mentioned_region_as_nearest():
    texts = np.array([REGIONS[0], REGIONS[2], REGIONS[3]])
    hits, chances = region_text_hits(texts, REGIONS, np.ones(4, bool), [{1}, {1, 2}, {3, 4}])
    assert hits.tolist() == [True, False, True]
    assert chances.tolist() == [0.25, 0.5, 0.5]


def test_regions_outside_the_volume_neither_compete_nor_count():
    texts = np.array([REGIONS[0], REGIONS[1]])
    visible = np.array([True, False, True, True])
    hits, chances = region_text_hits(texts, REGIONS, visible, [{1}, {2}])
    assert hits.tolist() == [True]
    assert chances.tolist() == [1 / 3]


def test_constant_embeddings_never_hit():
    constant = np.ones((4, 4))
    hits, _ = region_text_hits(constant, constant, np.ones(4, bool), [{1}, {2}, {3}, {1, 4}])
    assert not hits.any()


def test_a_text_that_mentions_nothing_does_not_count():
    hits, chances = region_text_hits(REGIONS[:1], REGIONS, np.ones(4, bool), [set()])
    assert len(hits) == len(chances) == 0
