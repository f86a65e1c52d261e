import copy

import pytest
import torch

from ctvlm.datasets.transforms import PackCTInputs
from ctvlm.models.objectives import Objective, batch_context
from ctvlm.models.region_encoders import overlap
from ctvlm.phantom import PhantomCT
from ctvlm.registry import MODELS, OBJECTIVES
from ctvlm.structures import MeanTerms

CONFIG = dict(
    type="CoTContrastiveVLM",
    space=dict(
        shared_dims=16,
        regions_in_volume=True,
        volume_pooling=dict(type="VolumePooling", mode="attention", with_regions=True),
        region_pooling=dict(type="RegionPooling", mode="attention"),
    ),
    backbone=dict(type="ThreeDVisionEncoder", embed_dims=24, depth=2, block=dict(num_heads=2), token_selection="body"),
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


def test_the_order_of_the_config_does_not_matter(dataset):
    """Configs are dumped with sorted keys; training is resumed from them."""
    own = dict(
        zeta=dict(type="SegmentationObjective", head=dict(type="SegmentationHead")),
        alpha=dict(type="SegmentationObjective", head=dict(type="SegmentationHead")),
    )
    models = [
        build(dataset, losses=dict(order(CONFIG["losses"].items())), objectives=dict(order(own.items())))
        for order in (list, sorted)
    ]
    names = [[name for name, _ in model.named_parameters()] for model in models]
    assert names[0] == names[1]
    data = models[0].data_preprocessor(batch(dataset, range(3)))
    texts = [context_of(model, data).texts.texts for model in models]
    assert texts[0] == texts[1]


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


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (dict(losses=dict(everything=dict(type="CrossModalContrastiveLoss"))), "'everything'"),
        (dict(objectives=dict(step=dict(loss=dict(type="StepAlignmentLoss")))), "'step'"),
        (dict(objectives=dict(sentence=dict(pool_by_mask=True))), "objectives.sentence"),
    ],
)
def test_a_wrong_objective_is_an_error(dataset, changes, named):
    with pytest.raises(ValueError, match=named):
        build(dataset, **changes)


def test_training_without_a_loss_is_an_error(dataset):
    model = build(dataset, losses={})
    data = model.data_preprocessor(batch(dataset, range(2)))
    for model.chunk_size in (None, 1):
        with pytest.raises(ValueError, match="model.losses"):
            model(**data, mode="loss")
    assert len(model.eval()(**data, mode="predict")) == 2


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


def context_of(model, data):
    model_context = model.context(**data)
    for objective in model.objectives.values():
        objective.request(model_context.texts)
    return model_context


def test_the_target_of_a_step_is_its_lesion_else_its_regions(dataset):
    model = build(dataset)
    data = model.data_preprocessor(batch(dataset, range(6)))
    context, samples = context_of(model, data), data["data_samples"]
    encoded, target = context.encoded, context.step_target_BSN
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


@pytest.mark.parametrize("pool_by_mask", [True, False])
def test_steps_are_compared_with_their_target_where_it_is_known(dataset, pool_by_mask):
    model = build(dataset, objectives=dict(step=dict(pool_by_mask=pool_by_mask))).eval()
    data = model.data_preprocessor(batch(dataset, range(6)))
    pooled = model.features(**data)["step"].visual_MP
    target = context_of(model, data).step_target_BSN
    samples = model(**data, mode="predict")
    expected, by_mask = [], 0
    for b, sample in enumerate(samples):
        for s in range(len(sample.steps)):
            known = pool_by_mask and bool(target[b, s].any())
            expected.append((target[b, s] if known else sample.pred_step_attention[s]) @ sample.pred_patches.float())
            by_mask += known
    torch.testing.assert_close(pooled, torch.stack(expected), rtol=1e-2, atol=1e-3)
    assert by_mask < len(expected), "some steps have no target"
    assert bool(by_mask) == pool_by_mask


def counted(monkeypatch, owner, name):
    """Replace a function or method by one that counts its calls."""
    calls, original = [], getattr(owner, name)

    def call(*args, **kwargs):
        calls.append(name)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_a_training_step_computes_each_shared_view_once(dataset, monkeypatch):
    losses = CONFIG["losses"] | dict(order=dict(type="StepOrderLoss"))
    regions = dict(type="SegmentationObjective", head=dict(type="SegmentationHead"))
    model = build(dataset, losses=losses, objectives=dict(regions=regions))
    data = model.data_preprocessor(batch(dataset, range(4)))
    # The model's own call, and the one that a region encoder makes unless it is given the result.
    overlaps = [counted(monkeypatch, module, "patch_overlap") for module in (batch_context, overlap)]
    space = model.space
    parts = [model.backbone, model.text_encoder, space.region_pooling, space.region_projection, space.patch_projection]
    calls = [counted(monkeypatch, part, "forward") for part in [*parts, space.volume_pooling]]
    assert len(model(**data, mode="loss")) == 6
    assert [len(found) for found in calls] == [1] * len(calls)
    assert sum(len(found) for found in overlaps) == 1


def test_predictions_are_those_that_metrics_read(dataset, monkeypatch):
    model = build(dataset).eval()
    patches = counted(monkeypatch, model.space.patch_projection, "forward")
    everything = set().union(*(objective.needs for objective in model.objectives.values()))
    for keys in ({"pred_volume"}, {"pred_volume", "pred_impression"}, {"pred_regions", "pred_steps"}, everything):
        model.set_predictions(keys | {"labels"})
        samples = model(**model.data_preprocessor(batch(dataset, range(2))), mode="predict")
        for sample in samples:
            assert {key for key in sample.keys() if key.startswith("pred_") or key == "patch_occupancy"} == keys  # noqa: SIM118
        assert bool(patches) == (keys == everything)
    model.set_predictions(None)
    sample = model(**model.data_preprocessor(batch(dataset, [0])), mode="predict")[0]
    assert everything <= set(sample.keys())


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
    model = build(dataset, data_preprocessor=dict(type="CTDataPreprocessor", region_map_drop=1.0))
    inputs = model.data_preprocessor(batch(dataset, range(2)))["inputs"]
    context = model.train().context(inputs)
    assert not context.encoded.region_mask.any()
    assert (context.anatomy.shares_BNR1[..., 1:].sum(dim=(1, 2)) > 0).all()
    assert model.eval().encode(inputs).region_mask.any(dim=1).all(), "evaluation always uses the map"


def test_one_projection_can_be_shared_by_volume_regions_and_patches(dataset):
    model = build(
        dataset, space=dict(shared_dims=16, shared_projection=True), losses=dict(volume=CONFIG["losses"]["volume"])
    )
    assert model.space.region_projection is model.space.patch_projection is model.space.volume_projection


def test_a_frozen_part_learns_nothing_and_stays_in_evaluation_mode(dataset):
    model = build(dataset, frozen=["backbone"]).train()
    assert model.text_encoder.training and not any(part.training for part in model.backbone.modules())
    sum(model(**model.data_preprocessor(batch(dataset, range(3))), mode="loss").values()).backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learned == {name for name, _ in model.named_parameters() if not name.startswith("backbone.")}
    with pytest.raises(ValueError, match=r"'encoder'.*'backbone'"):
        build(dataset, frozen=["encoder"])


def test_the_loss_of_a_frozen_objective_is_not_computed(dataset):
    whole, partial = build(dataset), build(dataset, frozen=["backbone", "objectives.volume"])
    assert set(partial.state_dict()) == set(whole.state_dict())
    losses = partial.train()(**partial.data_preprocessor(batch(dataset, range(3))), mode="loss")
    trained = {name for name, objective in whole.objectives.items() if objective.is_trained}
    assert trained - {name.removeprefix("loss_") for name in losses} == {"volume"}
    assert not any(p.requires_grad for p in partial.objectives["volume"].parameters())


class Brightness(Objective):
    """The mean of a linear function of the patch features, trained to be 0."""

    default_loss = "AttentionFocusLoss"  # any mean of terms
    needs = frozenset({"pred_brightness"})

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer = torch.nn.Linear(self.vision_dims, 1)

    def features(self, context):
        error_B = self.layer(context.encoded.tokens).mean(dim=(1, 2)).square()
        return MeanTerms(torch.stack([error_B.sum(), error_B.new_tensor(len(error_B))]))

    def predict(self, context, keys):
        for sample, tokens_NE in zip(context.samples, context.encoded.tokens):
            sample.pred_brightness = self.layer(tokens_NE).mean().cpu()


def test_an_own_objective_adds_a_mean_over_all_cases_and_predictions(dataset):
    OBJECTIVES.register_module(module=Brightness, force=True)
    try:
        own = dict(type="Brightness", loss=dict(type="AttentionFocusLoss", loss_weight=2.0))
        model = build(dataset, objectives=dict(brightness=own), losses={})
    finally:
        OBJECTIVES.module_dict.pop("Brightness")
    data = model.data_preprocessor(batch(dataset, range(3)))
    layer, encoded = model.objectives["brightness"].layer, model.encode(data["inputs"])
    expected = 2.0 * layer(encoded.tokens).mean(dim=(1, 2)).square().mean()
    for model.chunk_size in (None, 1, 2):
        losses = model(**data, mode="loss")
        assert set(losses) == {"loss_brightness"}
        torch.testing.assert_close(losses["loss_brightness"], expected, rtol=1e-4, atol=1e-7)
    assert not model.compares_cases
    assert all("pred_brightness" in sample for sample in model.eval()(**data, mode="predict"))
