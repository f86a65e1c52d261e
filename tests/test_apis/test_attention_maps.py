"""Maps show what the model did, where it did it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from ctvlm.apis import FeatureExtractor, attention_maps, init_model
from ctvlm.datasets.transforms import PackCTInputs
from ctvlm.engine import load_config
from ctvlm.phantom import PhantomCT
from ctvlm.volume import CTVolume, peak_mm


@pytest.fixture(scope="module")
def extractor(trained):
    return FeatureExtractor(init_model(trained[0], trained[1], "cpu"), pipeline=[])


def phantom(split: str, number: int) -> dict:
    return PhantomCT(num_cases=4, split=split, shape=(16, 64, 64), num_workers=0, cache=False).results(number)


def test_maps_equal_the_predictions(extractor):
    drawn = phantom("maps", 0)
    ct = CTVolume(drawn["volume"], drawn["affine"])
    case = extractor.read(ct, ct.with_array(drawn["region_map"]), "thorax_abdomen_20")
    case.packed["data_samples"].steps = PackCTInputs()(drawn)["data_samples"].steps
    texts = [step.text for step in case.packed["data_samples"].steps]
    maps = attention_maps(extractor, case, texts)
    sample = extractor.model.test_step(pseudo_collate([case.packed]))[0]
    kept = int(sample.pred_token_mask.sum())
    for found, expected in zip(maps.texts, sample.pred_step_attention, strict=True):
        np.testing.assert_allclose(found.array.ravel(), expected * kept, rtol=1e-4, atol=1e-6)
        assert found.array.mean() * found.array.size / kept == pytest.approx(1)
    assert maps.rollout.array.sum() == pytest.approx(kept, rel=1e-4)
    assert not maps.rollout.array.ravel()[~sample.pred_token_mask].any()
    liver = maps.regions.array.ravel() == 12
    assert liver.any() and (sample.patch_occupancy[liver, 12] > 0.15).all()
    assert not maps.regions.array.ravel()[(sample.patch_occupancy[:, 0] > 0.5).numpy()].any()


def test_an_encoder_without_self_attention_has_no_rollout(trained):
    cfg = load_config(trained[0])
    cfg.model.backbone = dict(type="SliceWiseTimm", model_name="test_resnet", embed_dims=24)
    torch.manual_seed(0)
    model = init_model(cfg, device="cpu")
    drawn = phantom("maps", 0)
    extractor = FeatureExtractor(model, pipeline=[])
    maps = attention_maps(extractor, extractor.read(CTVolume(drawn["volume"], drawn["affine"])), [])
    assert maps.rollout is None and maps.texts == [] and not maps.regions.array.any()


@pytest.mark.slow
def test_a_model_that_has_learned_lesions_by_heart_points_at_them(trained):
    """The map of a lesion's own step peaks within one patch of the lesion, in mm."""
    torch.manual_seed(0)
    model = init_model(trained[0], trained[1], "cpu")
    cases = [phantom("maps", number) for number in range(4)]
    batch = pseudo_collate([PackCTInputs()(case) for case in cases])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(150):
        loss = model(**model.data_preprocessor(batch, True), mode="loss")["loss_focus"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    extractor, hits = FeatureExtractor(model, pipeline=[]), []
    for drawn in cases:
        ct = CTVolume(drawn["volume"], drawn["affine"])
        case = extractor.read(ct, ct.with_array(drawn["region_map"]), "thorax_abdomen_20")
        steps = [step for step in drawn["cot"] if step.get("lesion") is not None]
        for step, heat in zip(steps, attention_maps(extractor, case, [s["text"] for s in steps]).texts, strict=True):
            voxels = np.argwhere(drawn["lesion_map"] == step["lesion"])[:, ::-1]
            points = voxels @ ct.affine[:3, :3].T + ct.affine[:3, 3]
            away = np.abs((points - peak_mm(heat)) @ np.linalg.inv(heat.affine[:3, :3]).T).max(axis=1).min()
            hits.append(away <= 1)
    assert len(hits) >= 4 and np.mean(hits) >= 0.9, hits
