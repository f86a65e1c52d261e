import copy

import pytest
import torch

from ctvlm.datasets.transforms import PackCTInputs
from ctvlm.models.vlms.step_targets import step_occupancy
from ctvlm.phantom import PhantomCT
from ctvlm.registry import HEADS, MODELS

CONFIG = dict(
    type="CoTContrastiveVLM",
    embed_dims=16,
    regions_in_volume=True,
    backbone=dict(type="ThreeDVisionEncoder", embed_dims=24, depth=2, block=dict(num_heads=2), token_selection="body"),
    global_pooling=dict(type="VolumePooling", mode="attention", with_regions=True),
    region_pooling=dict(type="RegionPooling", mode="attention"),
    text_encoder=dict(type="CompactTextEncoder", vocab_size=400, embed_dims=16, depth=1, num_heads=2, dropout=0.0),
    losses=dict(
        volume=dict(type="CrossModalContrastiveLoss"),
        region=dict(type="RegionAlignmentLoss"),
        step=dict(type="StepAlignmentLoss"),
        focus=dict(type="AttentionFocusLoss"),
    ),
)


@pytest.fixture(scope="module")
def dataset():
    return PhantomCT(num_cases=6, shape=(16, 64, 64), pipeline=[PackCTInputs()], num_workers=0)


def build(dataset, **changes):
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(CONFIG) | changes)
    model.fit_tokenizer(dataset.texts())
    return model


def batch(dataset, indices, with_map=True):
    items = [dataset[i] for i in indices]
    return dict(
        inputs=dict(
            volume=[item["inputs"]["volume"] for item in items],
            region_map=[item["inputs"]["region_map"] if with_map else None for item in items],
        ),
        data_samples=[item["data_samples"] for item in items],
    )


def test_every_parameter_gets_a_gradient(dataset):
    model = build(dataset)
    losses = model(**model.data_preprocessor(batch(dataset, range(4))), mode="loss")
    assert set(losses) == {"loss_volume", "loss_region", "loss_step", "loss_focus"}
    sum(losses.values()).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # Every text of a batch is encoded once, so only pieces that occur have a gradient; the table as a whole does.
    assert not missing


def test_each_level_can_be_left_out(dataset):
    model = build(dataset, losses=dict(volume=dict(type="CrossModalContrastiveLoss")))
    assert set(model(**model.data_preprocessor(batch(dataset, range(2))), mode="loss")) == {"loss_volume"}
    with pytest.raises(ValueError, match="'everything'"):
        build(dataset, losses=dict(everything=dict(type="CrossModalContrastiveLoss")))


def test_predictions_do_not_depend_on_the_batch(dataset):
    model = build(dataset).eval()
    together = model(**model.data_preprocessor(batch(dataset, [0, 1, 2])), mode="predict")
    alone = model(**model.data_preprocessor(batch(dataset, [2])), mode="predict")[0]
    for key in ("pred_volume", "pred_regions", "pred_impression", "pred_steps", "pred_step_attention"):
        torch.testing.assert_close(together[2].get(key), alone.get(key), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone.pred_volume.norm(), torch.tensor(1.0))
    torch.testing.assert_close(alone.pred_step_attention.sum(dim=1), torch.ones(len(alone.steps)))
    assert not alone.pred_step_attention[:, ~alone.pred_token_mask].any()


def test_a_bare_ct_without_any_mask_works(dataset):
    model = build(dataset)
    data = model.data_preprocessor(batch(dataset, range(2), with_map=False))
    losses = model(**data, mode="loss")
    assert float(losses["loss_region"].detach()) == 0.0
    assert all(torch.isfinite(loss) for loss in losses.values())
    sample = model.eval()(**data, mode="predict")[0]
    assert torch.isfinite(sample.pred_volume).all()
    assert not sample.pred_region_mask.any()
    assert sample.get("patch_occupancy") is None


def test_one_batch_can_be_learned(dataset):
    """Every loss falls far below where it started: nothing is cut off from its gradient."""
    model = build(dataset)
    data = model.data_preprocessor(batch(dataset, range(6)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(100):
        losses = model(**data, mode="loss")
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
    assert history[-1]["loss_volume"] < 0.2 * history[0]["loss_volume"]
    assert history[-1]["loss_region"] < 0.7 * history[0]["loss_region"]
    assert history[-1]["loss_step"] < 0.7 * history[0]["loss_step"]
    assert history[-1]["loss_focus"] < history[0]["loss_focus"]


def test_a_step_looks_at_its_lesion_else_at_its_regions(dataset):
    model = build(dataset)
    data = model.data_preprocessor(batch(dataset, range(6)))
    encoded = model(data["inputs"], mode="tensor")
    samples = data["data_samples"]
    anatomy = model.anatomy(data["inputs"], encoded)
    target = step_occupancy(encoded, anatomy, samples, max(len(sample.steps) for sample in samples))
    seen = {"lesion": 0, "regions": 0, "nothing": 0}
    for b, sample in enumerate(samples):
        for s, step in enumerate(sample.steps):
            patches = target[b, s].view(encoded.grid) > 0
            if step.lesion is not None:
                drawn = (sample.lesion_map == step.lesion).float()[None, None]
                expected = torch.nn.functional.max_pool3d(drawn, (4, 16, 16))[0, 0] > 0
                seen["lesion"] += 1
            elif step.regions:
                expected = encoded.patch_to_region[b][:, list(step.regions)].sum(dim=1).view(encoded.grid) > 0
                seen["regions"] += 1
            else:
                expected = torch.zeros(encoded.grid, dtype=torch.bool)
                seen["nothing"] += 1
            assert torch.equal(patches, expected & encoded.token_mask[b].view(encoded.grid))
    assert min(seen.values()) > 0, "the cases of this test show each kind"


@pytest.mark.parametrize("step_place", [True, False])
def test_steps_are_held_against_their_place_where_it_is_known(dataset, step_place):
    model = build(dataset, step_place=step_place).eval()
    data = model.data_preprocessor(batch(dataset, range(6)))
    found = model.features(**data)["step"].visual_MP
    samples, encoded = model(**data, mode="predict"), model(data["inputs"], mode="tensor")
    anatomy = model.anatomy(data["inputs"], encoded)
    place = step_occupancy(encoded, anatomy, samples, max(len(sample.steps) for sample in samples))
    expected, placed = [], 0
    for b, sample in enumerate(samples):
        for s in range(len(sample.steps)):
            known = step_place and bool(place[b, s].any())
            expected.append((place[b, s] if known else sample.pred_step_attention[s]) @ sample.pred_patches.float())
            placed += known
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-2, atol=1e-3)
    assert placed < len(expected), "some steps name no place"
    assert bool(placed) == step_place


def test_chunks_give_the_same_loss(dataset):
    model = build(dataset)
    data = model.data_preprocessor(batch(dataset, range(5)))
    whole = model(**data, mode="loss")
    model.chunk_size = 2
    chunked = model(**data, mode="loss")
    assert whole.keys() == chunked.keys()
    for name in whole:
        torch.testing.assert_close(whole[name], chunked[name], rtol=1e-4, atol=1e-5)


def test_a_dropped_region_map_is_unknown_to_the_encoder_and_still_a_target(dataset):
    model = build(dataset, region_map_drop=1.0)
    inputs = model.data_preprocessor(batch(dataset, range(2)))["inputs"]
    encoded = model.train().encode(inputs)
    assert not encoded.region_mask.any()
    assert (model.anatomy(inputs, encoded).shares_BNR1[..., 1:].sum(dim=(1, 2)) > 0).all()
    assert model.eval().encode(inputs).region_mask.any(dim=1).all(), "in evaluation the map is always seen"


def test_one_projection_can_serve_volume_regions_and_patches(dataset):
    model = build(dataset, shared_projection=True, losses=dict(volume=dict(type="CrossModalContrastiveLoss")))
    assert model.region_projection is model.step_projection is model.global_projection


def test_a_frozen_part_learns_nothing_and_stays_in_evaluation_mode(dataset):
    model = build(dataset, frozen=["backbone"]).train()
    assert model.text_encoder.training and not any(part.training for part in model.backbone.modules())
    sum(model(**model.data_preprocessor(batch(dataset, range(3))), mode="loss").values()).backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learned == {name for name, _ in model.named_parameters() if not name.startswith("backbone.")}
    with pytest.raises(ValueError, match=r"'encoder'.*'backbone'"):
        build(dataset, frozen=["encoder"])


class Brightness(torch.nn.Module):
    """An auxiliary head: the mean HU of the patches' features, to be 0."""

    loss_weight = 2.0

    def __init__(self, in_dims):
        super().__init__()
        self.layer = torch.nn.Linear(in_dims, 1)

    def terms(self, encoded, anatomy, inputs, data_samples):
        error_B = self.layer(encoded.tokens).mean(dim=(1, 2)).square()
        return torch.stack([error_B.sum(), error_B.new_tensor(len(error_B))])

    def predict(self, encoded, inputs, data_samples):
        for sample, tokens_NE in zip(data_samples, encoded.tokens):
            sample.pred_brightness = self.layer(tokens_NE).mean().cpu()


def test_an_auxiliary_head_adds_a_mean_over_all_cases_and_predictions(dataset):
    HEADS.register_module(module=Brightness, force=True)
    try:
        model = build(dataset, auxiliary=dict(brightness=dict(type="Brightness")), losses={})
    finally:
        HEADS.module_dict.pop("Brightness")
    data = model.data_preprocessor(batch(dataset, range(3)))
    encoded = model.encode(data["inputs"])
    expected = 2.0 * model.auxiliary["brightness"].layer(encoded.tokens).mean(dim=(1, 2)).square().mean()
    for model.chunk_size in (None, 1, 2):
        losses = model(**data, mode="loss")
        assert set(losses) == {"loss_brightness"}
        torch.testing.assert_close(losses["loss_brightness"], expected, rtol=1e-4, atol=1e-7)
    assert all("pred_brightness" in sample for sample in model.eval()(**data, mode="predict"))
