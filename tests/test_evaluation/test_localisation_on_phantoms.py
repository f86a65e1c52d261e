"""LocalisationMetric on phantoms with anisotropic voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctvlm.datasets.transforms import PackCTInputs
from ctvlm.evaluation import LocalisationMetric
from ctvlm.phantom import PhantomCT
from ctvlm.registry import MODELS

PATCH, SHAPE = np.array([4, 16, 16]), (16, 96, 96)
GRID = tuple(SHAPE // PATCH)


@pytest.fixture(scope="module")
def cases():
    dataset = PhantomCT(6, split="localisation", shape=SHAPE, pipeline=[PackCTInputs()], num_workers=0)
    return [dataset[i] for i in range(len(dataset))]


def occupancy(mask):
    """Share of each patch that a mask fills (N)."""
    d, h, w = GRID
    return mask.reshape(d, 4, h, 16, w, 16).mean(axis=(1, 3, 5)).ravel()


def scored(samples, **kwargs):
    metric = LocalisationMetric(**kwargs)
    metric.process(None, samples)
    return {name.removeprefix("localisation/"): value for name, value in metric.evaluate(len(samples)).items()}


def test_distance_of_attention_on_the_patches_of_lesions(cases):
    """The distance is that from the centre of the best patch to the lesion; shifted attention scores worse."""
    expected, samples, shifted = [], [], []
    for case in cases:
        data = case["data_samples"].to_dict()
        spacing, lesions = np.array(data["spacing"]), data["lesion_map"].numpy()
        assert spacing[0] > 1.5 * spacing[1]
        attention = np.zeros((len(data["steps"]), np.prod(GRID)))
        for s, step in enumerate(data["steps"]):
            if step.lesion is None or not (mask := lesions == step.lesion).any():
                continue
            best = int(occupancy(mask).argmax())
            attention[s, best] = 1
            corner = np.array(np.unravel_index(best, GRID)) * PATCH
            # The eight voxels around the centre of a patch tie; the farthest is used.
            middle = np.stack(
                np.meshgrid(*(c + np.array([p // 2 - 1, p // 2]) for c, p in zip(corner, PATCH)), indexing="ij")
            )
            offsets = np.argwhere(mask)[:, None] - middle.reshape(3, 8).T[None]
            expected.append(np.linalg.norm(offsets * spacing, axis=-1).min(axis=0).max())
            assert expected[-1] < np.linalg.norm(PATCH * spacing) / 2 + np.linalg.norm(spacing)
        samples.append({**data, "pred_step_attention": torch.tensor(attention), "pred_grid": GRID})
        rolled = np.roll(attention.reshape(-1, *GRID), 2, axis=1).reshape(attention.shape)
        shifted.append({**samples[-1], "pred_step_attention": torch.tensor(rolled)})
    assert len(expected) >= 6
    near, far = scored(samples), scored(shifted)
    assert near["num_findings"] == len(expected)
    assert near["peak_distance_mm"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert near["slice_error_mm"] < np.mean([4 * case["data_samples"].spacing[0] for case in cases])
    assert far["slice_error_mm"] > near["slice_error_mm"]
    assert far["peak_distance_mm"] > near["peak_distance_mm"] + 10
    assert near["dice"] > far["dice"]


def test_predictions_of_a_model_are_scored(cases, repo_root):
    from mmengine.dataset import pseudo_collate

    from ctvlm.engine import load_config

    options = {"model.backbone.depth": 2, "model.backbone.img_size": SHAPE}
    model = MODELS.build(load_config(repo_root / "configs/vit3d_cot_contrastive.py", options).model).eval()
    model.fit_tokenizer([step.text for case in cases for step in case["data_samples"].steps])
    with torch.no_grad():
        data = model.data_preprocessor(pseudo_collate(cases), False)
        predicted = [sample.to_dict() for sample in model(**data, mode="predict")]
    metrics = scored(predicted, per_finding=True)
    lesions = sum(
        bool((d["lesion_map"] == s.lesion).any()) for d in predicted for s in d["steps"] if s.lesion is not None
    )
    assert metrics["num_findings"] == lesions
    extent = max(np.linalg.norm(np.array(d["spacing"]) * SHAPE) for d in predicted)
    assert 0 < metrics["peak_distance_mm"] < extent
    for name in ("iou", "dice", "peak_hit", "hit@0.1", "instance_f1"):
        assert 0 <= metrics[name] <= 1
