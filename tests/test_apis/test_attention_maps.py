"""Attention maps equal the model's predictions and are at the right position."""

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
    case_dict = phantom("maps", 0)
    ct = CTVolume(case_dict["volume"], case_dict["affine"])
    case = extractor.read(ct, ct.with_array(case_dict["region_map"]), "thorax_abdomen_20")
    case.packed["data_samples"].steps = PackCTInputs()(case_dict)["data_samples"].steps
    texts = [step.text for step in case.packed["data_samples"].steps]
    maps = attention_maps(extractor, case, texts)
    sample = extractor.model.test_step(pseudo_collate([case.packed]))[0]
    num_tokens = int(sample.pred_token_mask.sum())
    for heat, expected in zip(maps.texts, sample.pred_step_attention, strict=True):
        np.testing.assert_allclose(heat.array.ravel(), expected * num_tokens, rtol=1e-4, atol=1e-6)
        assert heat.array.mean() * heat.array.size / num_tokens == pytest.approx(1)
    assert maps.rollout.array.sum() == pytest.approx(num_tokens, rel=1e-4)
    assert not maps.rollout.array.ravel()[~sample.pred_token_mask].any()
    liver = maps.regions.array.ravel() == 12
    assert liver.any() and (sample.patch_occupancy[liver, 12] > 0.15).all()
    assert not maps.regions.array.ravel()[(sample.patch_occupancy[:, 0] > 0.5).numpy()].any()


def test_encoder_without_self_attention_has_no_rollout(trained):
    cfg = load_config(trained[0])
    cfg.model.backbone = dict(type="SliceWiseTimm", model_name="test_resnet", embed_dims=24)
    torch.manual_seed(0)
    model = init_model(cfg, device="cpu")
    case_dict = phantom("maps", 0)
    extractor = FeatureExtractor(model, pipeline=[])
    maps = attention_maps(extractor, extractor.read(CTVolume(case_dict["volume"], case_dict["affine"])), [])
    assert maps.rollout is None and maps.texts == [] and not maps.regions.array.any()


@pytest.mark.slow
def test_overfitted_model_attends_to_lesions(trained):
    """The maximum of the map of a lesion's step is at most one patch away from the lesion."""
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
    for case_dict in cases:
        ct = CTVolume(case_dict["volume"], case_dict["affine"])
        case = extractor.read(ct, ct.with_array(case_dict["region_map"]), "thorax_abdomen_20")
        steps = [step for step in case_dict["cot"] if step.get("lesion") is not None]
        for step, heat in zip(steps, attention_maps(extractor, case, [s["text"] for s in steps]).texts, strict=True):
            voxels = np.argwhere(case_dict["lesion_map"] == step["lesion"])[:, ::-1]
            points = voxels @ ct.affine[:3, :3].T + ct.affine[:3, 3]
            distance = np.abs((points - peak_mm(heat)) @ np.linalg.inv(heat.affine[:3, :3]).T).max(axis=1).min()
            hits.append(distance <= 1)
    assert len(hits) >= 4 and np.mean(hits) >= 0.9, hits
