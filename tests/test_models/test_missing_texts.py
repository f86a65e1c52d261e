"""A case without an impression, and a step without a text, are not pairs; no embedding stands for them."""

from __future__ import annotations

import math

import pytest

from ctvlm.datasets.transforms import PackCTInputs
from ctvlm.engine import CTDistributedDataParallel
from ctvlm.phantom import PhantomCT
from ctvlm.structures import CoTStep
from tests.ranks import on_ranks
from tests.test_models.test_gradient_caching import assert_same, batch, build, double

BLANKS = ("", "  ", "\n")
# Cases that have an impression: none, one, some, all. Rank 1 of 2 has cases 3 and 4: none of the first three's.
GROUPS = {"none": (), "one": (1,), "some": (0, 2, 3), "all": range(5)}
SHARES = (range(3), range(3, 5))


def cases_of(cases, present, silent: bool = False) -> dict:
    """Random cases, of which only those in ``present`` keep their impression; ``silent`` ones have no text at all."""
    data = batch(cases)
    for case, sample in zip(cases, data["data_samples"], strict=True):
        if case not in present:
            sample.impression = BLANKS[case % 3]
        blank = CoTStep(BLANKS[case % 3], regions=(1, 2))
        sample.steps = [blank] if silent else [blank, *sample.steps, blank]
    return data


def gradients(model, data, chunk_size=None, wrapped=None):
    model.chunk_size = chunk_size
    model.zero_grad()
    losses = (wrapped or model)(**model.data_preprocessor(data, training=True), mode="loss")
    sum(losses.values()).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: float(loss.detach()) for name, loss in losses.items()}, found


def without_blank_steps(data: dict) -> dict:
    for sample in data["data_samples"]:
        sample.steps = [step for step in sample.steps if step.text.strip()]
    return data


VARIANTS = [(losses, group, silent) for losses in ("nce", "sigmoid") for group in GROUPS for silent in (False, True)]


@pytest.mark.parametrize(("losses", "group", "silent"), VARIANTS)
def test_losses_and_gradients_are_finite_and_equal_in_chunks(losses, group, silent):
    model = double(build(losses))
    expected = gradients(model, cases_of(range(5), GROUPS[group], silent))
    assert all(math.isfinite(loss) for loss in expected[0].values())
    assert expected[1].keys() == {name for name, _ in model.named_parameters()}, "each parameter has a gradient"
    assert all(gradient.isfinite().all() for gradient in expected[1].values())
    assert_same(gradients(model, cases_of(range(5), GROUPS[group], silent), 2), expected)
    if group == "none":
        assert expected[0]["loss_volume"] == 0
    if silent:
        assert expected[0]["loss_step"] == expected[0]["loss_region"] == 0


def test_the_volume_loss_is_that_of_the_cases_with_an_impression():
    """As if the other cases were not in the batch, in value and in each gradient."""
    model = double(build(losses="nce"))
    for name in ("region", "step", "focus"):
        model.objectives[name].criterion = None
    present = GROUPS["some"]
    expected = gradients(model, without_blank_steps(cases_of(present, present)))
    assert_same(gradients(model, cases_of(range(5), present)), expected)


def test_blank_steps_change_nothing():
    model = double(build(losses="nce"))
    expected = gradients(model, without_blank_steps(cases_of(range(5), range(5))))
    assert_same(gradients(model, cases_of(range(5), range(5))), expected)


# On ranks: none (steps or nothing at all), one, and all cases have an impression.
RANKED = [("nce", "none", True), ("nce", "one", False), ("sigmoid", "none", False), ("sigmoid", "all", False)]


def rank_gradients(rank: int, world_size: int) -> dict:
    found = {}
    for losses, group, silent in RANKED:
        model = double(build(losses))
        wrapped = CTDistributedDataParallel(model)
        for chunk_size in (None, 2):
            data = cases_of(SHARES[rank], GROUPS[group], silent)
            found[losses, group, silent, chunk_size] = gradients(model, data, chunk_size, wrapped)
    return found


def test_two_ranks_equal_one_process():
    results = on_ranks(rank_gradients, 2)
    for losses, group, silent in RANKED:
        expected = gradients(double(build(losses)), cases_of(range(5), GROUPS[group], silent))
        for found in results:
            for chunk_size in (None, 2):
                assert_same(found[losses, group, silent, chunk_size], expected)


@pytest.mark.parametrize("silent", [False, True])
def test_no_embedding_of_an_empty_text_is_predicted(silent):
    model = build().eval()
    asked: list[str] = []
    embed = model.embed_texts
    model.embed_texts = lambda texts: embed(asked.extend(texts) or texts)
    data = cases_of(range(3), (1,), silent)
    samples = model(**model.data_preprocessor(data), mode="predict")
    assert all(text.strip() for text in asked)
    assert [sample.pred_impression is not None for sample in samples] == [False, True, False]
    for sample in samples:
        assert len(sample.pred_steps) == len(sample.pred_step_attention) == len(sample.steps)
        assert all(step.text.strip() for step in sample.steps)
        assert sample.pred_steps.isfinite().all()


@pytest.mark.parametrize("from_steps", [False, True])
def test_the_config_can_use_the_steps_as_impression(from_steps):
    class WithoutImpression:
        def __call__(self, results):
            return results | dict(report=dict(results["report"], impression=" "))

    pipeline = [WithoutImpression(), PackCTInputs(impression_from_steps=from_steps)]
    sample = PhantomCT(num_cases=1, shape=(16, 64, 64), pipeline=pipeline, num_workers=0)[0]["data_samples"]
    steps = " ".join(step.text for step in sample.steps)
    assert steps
    assert sample.impression.strip() == (steps if from_steps else "")
