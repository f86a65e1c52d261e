"""The model in ctvlm/weights: its recipe, its size, and the regions that it gives without masks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ctvlm.apis import RegionSegmenter, init_model, list_models
from ctvlm.engine import load_config
from ctvlm.evaluation.functional.localisation import mask_dice
from ctvlm.phantom import PhantomCT
from ctvlm.volume import CTVolume, read_label_map, resample_to_grid

RECIPE = "configs/vit3d_phantom/generation.py"


@pytest.fixture(scope="module")
def segment():
    return RegionSegmenter(init_model(device="cpu"))


def test_model_is_that_of_its_recipe(segment, repo_root):
    recipe = load_config(repo_root / RECIPE)
    for key in ("model", "test_pipeline", "train_dataloader"):
        assert segment.model.cfg[key] == json.loads(json.dumps(recipe[key]))  # JSON has no tuples


def test_size_and_tasks():
    (info,) = list_models()
    assert sum(path.stat().st_size for path in info.folder.iterdir()) < 6e6
    assert set(info.tasks) == {"features", "zero-shot", "step-attention", "regions", "reasoning"}
    assert {record["dataset"] for record in info.training_data} == {"PhantomCT"}


def test_regions_of_a_held_out_phantom(segment):
    phantom = PhantomCT(num_cases=1, split="shipped", shape=(48, 128, 128), num_workers=0, cache=False).results(0)
    predicted = segment(CTVolume(phantom["volume"], phantom["affine"])).labels.array
    scheme = segment.read.scheme
    for name in ("lung", "liver", "spine"):
        ids = scheme.ids_of_class(name)
        assert mask_dice(np.isin(predicted, ids), np.isin(phantom["region_map"], ids)) > 0.8, name


@pytest.mark.parametrize(
    ("ct", "mask", "label", "region", "least"),
    [
        ("elastix_lung/ct.nii.gz", "elastix_lung/lung_mask.nii.gz", None, "lung", 0.95),
        ("ts_small_117/example_ct_sm.nii.gz", "ts_small_117/example_seg.nii.gz", 5, "liver", 0.83),
        ("ts_aorta_lps/ct_cropped.nii.gz", "ts_aorta_lps/aorta.nii.gz", None, "aorta", 0.6),
    ],
)
def test_regions_of_real_cts(segment, shared_data, ct, mask, label, region, least):
    """Dice as in the model card, where it is 0.96, 0.84 and 0.62."""
    true = read_label_map(shared_data / "ct" / mask)
    predicted = resample_to_grid(segment(shared_data / "ct" / ct).labels, true.affine, true.shape, "nearest")
    ids = segment.read.scheme.ids_of_class(region)
    assert mask_dice(np.isin(predicted.array, ids), true.array == label if label else true.array > 0) > least
