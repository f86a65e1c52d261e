import numpy as np
import pytest
import torch

from ctvlm.evaluation import StepTextMetric
from ctvlm.evaluation.functional import rival_cases, step_text_auc, step_text_scores
from ctvlm.models.space import step_attention
from ctvlm.structures import CoTStep


def unit(rng, *shape):
    vectors = rng.normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_scores_equal_the_model():
    rng = np.random.default_rng(0)
    text_SP, patches_NP = unit(rng, 5, 8), unit(rng, 11, 8)
    attention = step_attention(
        torch.tensor(text_SP)[None], torch.tensor(patches_NP)[None], 7.0, torch.ones(1, 11, dtype=torch.bool)
    )
    pooled = attention[0] @ torch.tensor(patches_NP)
    expected = torch.cosine_similarity(pooled, torch.tensor(text_SP))
    np.testing.assert_allclose(step_text_scores(text_SP, patches_NP, 7.0), expected.numpy(), atol=1e-12)


def test_rivals_have_the_same_regions_and_no_common_finding():
    # Case 0: normal lung. Case 1: nodule and opacity. Case 2: nodule in another region. Case 3: nodule.
    owners = [0, 1, 1, 2, 3]
    regions = ["lung", "lung", "lung", "aorta", "lung"]
    findings = [(), ("nodule",), ("opacity",), ("nodule",), ("nodule",)]
    rivals = rival_cases(owners, regions, findings, 5)
    assert [np.flatnonzero(row).tolist() for row in rivals] == [[1, 3], [0], [0, 3], [], [0]]


def test_auc_equals_a_loop_over_pairs():
    rng = np.random.default_rng(1)
    scores, rivals = rng.integers(0, 4, (12, 6)).astype(float), rng.random((12, 6)) < 0.4
    owners = rng.integers(0, 6, 12)
    rivals[0] = False
    auc = step_text_auc(scores, owners, rivals)
    assert np.isnan(auc[0])
    for s in range(1, 12):
        pairs = [np.sign(scores[s, owners[s]] - scores[s, c]) / 2 + 0.5 for c in np.flatnonzero(rivals[s])]
        assert auc[s] == pytest.approx(np.mean(pairs), nan_ok=True)


def cases(patches_of):
    """Four cases, two with a nodule; ``patches_of`` returns the patches for the embedding of the finding."""
    rng = np.random.default_rng(2)
    normal, nodule = np.eye(8)[0], np.eye(8)[1]
    samples = []
    for number in range(4):
        abnormal = number < 2
        step = CoTStep(f"No nodule {number}.", (1,))
        if abnormal:
            step = CoTStep(f"A nodule {number}.", (1,), ("nodule",), 1)
        patches = patches_of(nodule if abnormal else normal, rng)
        samples.append(
            dict(
                case_id=str(number),
                steps=[CoTStep("A chest CT."), step],
                pred_steps=torch.tensor(np.stack([unit(rng, 8), nodule if abnormal else normal])),
                pred_patches=torch.tensor(patches),
                pred_token_mask=torch.tensor([True] * 5 + [False]),
                pred_step_scale=10.0,
            )
        )
    return samples


def scored(samples):
    metric = StepTextMetric(bootstrap=5)
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_auc_of_patches_with_and_without_the_finding():
    visible = scored(cases(lambda finding, rng: np.stack([finding, *unit(rng, 5, 8) * [0, 0, 1, 1, 1, 1, 1, 1]])))
    assert visible["step_text/auc"] == visible["step_text/auc_abnormal"] == visible["step_text/auc_low"] == 1
    assert visible["step_text/num_steps"] == 4  # the first steps mention no region
    # Masked patches have no effect.
    hidden = scored(cases(lambda finding, rng: np.stack([*np.tile(np.eye(8)[2], (5, 1)), finding])))
    assert hidden["step_text/auc"] == hidden["step_text/auc_abnormal"] == 0.5


def test_rejects_nan():
    broken = cases(lambda finding, rng: np.full((6, 8), np.nan))
    with pytest.raises(ValueError, match="NaN"):
        scored(broken)
