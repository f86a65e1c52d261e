"""Contract of objectives (registry OBJECTIVES)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ctvlm.registry import MODELS, OBJECTIVES
from ctvlm.structures import CoTStep, CTDataSample, MeanTerms, Pairs
from ctvlm.testing.building import NUM_HEADS, WIDTH, Component, Recipe
from ctvlm.testing.require import require, require_close, require_finite

SIZE = (4, 12, 8)
REGIONS = 20  # of the default RegionScheme
NAME = "checked"
# Findings that the random cases are labelled with.
LABELS = ("Lung nodule", "Pleural effusion")
SENTENCES = (
    "There is a small nodule in the left lung.",
    "No effusion.",
    "The liver is normal.",
    "A cyst in the kidney.",
    "Calcified aorta.",
)


def check_objective(component: Component, **options: Any) -> None:
    """Check an objective inside a small model on random cases.

    Properties: ``picklable config``, ``module``, ``features`` (Pairs or MeanTerms), ``finite``, ``one pass`` (encoder
    and text encoder run at most once per step), ``gradient caching`` (loss and gradients do not change if features are
    computed case by case, so features of a case do not depend on other cases), ``gradients`` (of all parameters of the
    objective), ``no targets`` (cases without text, labels and region map give a finite loss, and still a gradient of
    every trained parameter, which DDP needs), ``bfloat16``, ``state dict``, ``needs`` (``predict`` writes the declared
    keys, and only those that are asked for).

    Cases have an impression, findings, steps with regions and lesions, and the labels ``LABELS``.

    Args:
        component: class, registered name, or config.
        options: constructor arguments. The widths of the encoder and the shared space are filled in.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(OBJECTIVES, component, options, small={})
    recipe.check_config()
    model = small_model(recipe.config)
    objective = model.objectives[NAME]
    require(isinstance(objective, nn.Module), recipe.name, "module", type(objective).__name__, "a torch.nn.Module")
    if objective.is_trained:
        _check_features(recipe, model)
        _check_passes(recipe, model)
        _check_caching(recipe, model)
        _check_no_targets(recipe, model)
        _check_state_dict(recipe, model)
    _check_predictions(recipe, model)


def small_model(objective: dict[str, Any], seed: int = 0) -> Any:
    """A CoTContrastiveVLM whose only objective has the name ``NAME``, in evaluation mode."""
    torch.manual_seed(seed)
    backbone = dict(
        type="ThreeDVisionEncoder",
        patch_embed=dict(patch_size=(2, 4, 4)),
        block=dict(num_heads=NUM_HEADS),
        embed_dims=WIDTH,
        depth=1,
        num_regions=REGIONS,
    )
    text_encoder = dict(
        type="CompactTextEncoder", vocab_size=320, embed_dims=WIDTH, depth=1, num_heads=NUM_HEADS, max_length=16
    )
    config = dict(
        type="CoTContrastiveVLM",
        backbone=backbone,
        text_encoder=text_encoder,
        space=dict(shared_dims=16),
        objectives={NAME: objective},
    )
    model = MODELS.build(config)
    for name in set(model.objectives) - {NAME}:
        del model.objectives[name]  # levels that are always predicted write the same keys
    model.fit_tokenizer(SENTENCES)
    return model.eval()


def random_batch(count: int = 3, empty: bool = False) -> tuple[dict[str, Tensor | None], list[CTDataSample]]:
    """Inputs and samples of the model. Cases have 0 to 2 steps.

    Args:
        empty: no text, no labels, no lesions and no region map.
    """
    torch.manual_seed(7)
    region_map = None if empty else torch.randint(0, REGIONS + 1, (count, *SIZE))
    inputs = dict(volume=torch.randn(count, 1, *SIZE) * 300, region_map=region_map, spacing=torch.rand(count, 3) + 1)
    samples = []
    for number in range(count):
        sample = CTDataSample(
            metainfo=dict(
                case_id=f"case_{number}",
                patient_id=f"patient_{number}",
                spacing=(1.0, 1.0, 1.0),
                volume_shape=SIZE,
                region_names=tuple(f"region_{region}" for region in range(1, REGIONS + 1)),
            )
        )
        sample.impression = "" if empty else SENTENCES[number % len(SENTENCES)]
        sample.findings = "" if empty else " ".join(SENTENCES[number % 2 : number % 2 + 3])
        sample.steps = [] if empty else _steps(number)
        sample.labels = {} if empty else {label: (number + i) % 2 for i, label in enumerate(LABELS)}
        if not empty:
            sample.lesion_map = torch.zeros(SIZE, dtype=torch.uint8)
            sample.lesion_map[:2, :4, :4] = 1
        samples.append(sample)
    return inputs, samples


def _steps(number: int) -> list[CoTStep]:
    steps = [CoTStep(SENTENCES[0], (1,), ("nodule",), 1), CoTStep(SENTENCES[2], (2, 3), normal=True)]
    return [*steps, CoTStep(SENTENCES[3 + number % 2], (4,))][: 2 + number % 2]


def _loss(model: Any, inputs: dict, samples: Sequence[CTDataSample]) -> Tensor:
    return model(inputs, copy.deepcopy(list(samples)), mode="loss")[f"loss_{NAME}"]


def _gradients(model: Any) -> dict[str, Tensor]:
    grads = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return grads


def _check_features(recipe: Recipe, model: Any) -> None:
    inputs, samples = random_batch()
    features = model.features(inputs, samples)[NAME]
    fits = isinstance(features, (Pairs, MeanTerms))
    require(fits, recipe.name, "features", type(features).__name__, "Pairs or MeanTerms")
    if isinstance(features, Pairs):
        counts = [len(features.visual_MP), len(features.text_MP), len(features.text_ids_M)]
        require(len(set(counts)) == 1 and counts[0], recipe.name, "features", f"{counts} rows", "equal counts above 0")
    else:
        require(bool(features.sum_and_count_2[1] > 0), recipe.name, "features", "a count of 0", "at least one term")
    require_finite(_loss(model, inputs, samples), recipe.name, "finite", "random cases")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        require_finite(_loss(model, inputs, samples), recipe.name, "bfloat16", "bfloat16 autocast")


def _check_passes(recipe: Recipe, model: Any) -> None:
    calls = {"backbone": 0, "text_encoder": 0}

    def counter(part: str) -> Any:
        def count(*_: Any) -> None:
            calls[part] += 1

        return count

    hooks = [getattr(model, part).register_forward_pre_hook(counter(part)) for part in calls]
    inputs, samples = random_batch()
    for mode in ("loss", "predict"):
        calls.update(dict.fromkeys(calls, 0))
        model(inputs, copy.deepcopy(samples), mode=mode)
        repeated = {part: count for part, count in calls.items() if count > 1}
        require(not repeated, recipe.name, "one pass", f"calls {repeated} in mode {mode!r}", "at most one call")
    for hook in hooks:
        hook.remove()


def _check_caching(recipe: Recipe, model: Any) -> None:
    inputs, samples = random_batch()
    whole = _loss(model, inputs, samples)
    whole.backward()
    expected = _gradients(model)
    missing = [key for key, p in model.objectives[NAME].named_parameters() if p.requires_grad]
    prefix = f"objectives.{NAME}."
    missing = [key for key in missing if prefix + key not in expected or not bool(expected[prefix + key].any())]
    require(not missing, recipe.name, "gradients", f"no gradient of {missing}", "a gradient of every parameter")
    model.chunk_size = 1
    try:
        chunked = _loss(model, inputs, samples)
        chunked.backward()
    finally:
        model.chunk_size = None
    what = "the loss of features that are computed at once"
    require_close(chunked, whole, recipe.name, "gradient caching", what)
    found = _gradients(model)
    require(found.keys() == expected.keys(), recipe.name, "gradient caching", sorted(found), sorted(expected))
    for key, grad in expected.items():
        require_close(found[key], grad, recipe.name, "gradient caching", f"the gradient of {key}", rtol=1e-3)


def _check_no_targets(recipe: Recipe, model: Any) -> None:
    inputs, samples = random_batch()
    _loss(model, inputs, samples).backward()
    trained = set(_gradients(model))
    inputs, samples = random_batch(empty=True)
    loss = _loss(model, inputs, samples)
    require_finite(loss, recipe.name, "no targets", "cases without text, labels and region map")
    require(loss.requires_grad, recipe.name, "no targets", "a loss without gradient", "a gradient")
    loss.backward()
    grads = _gradients(model)
    own = {key for key in trained if key.startswith(f"objectives.{NAME}.")}
    missing = sorted(own - set(grads))
    require(not missing, recipe.name, "no targets", f"no gradient of {missing}", "a gradient of every parameter")
    finite = all(bool(torch.isfinite(grad).all()) for grad in grads.values())
    require(finite, recipe.name, "no targets", "NaN or infinite gradients", "finite gradients")


def _check_state_dict(recipe: Recipe, model: Any) -> None:
    other = small_model(recipe.config, seed=1)
    try:
        other.load_state_dict(model.state_dict())
    except RuntimeError as error:
        require(False, recipe.name, "state dict", str(error), "a state dict that loads strictly")
    batch = random_batch()
    expected = _loss(model, *batch)
    require_close(_loss(other, *batch), expected, recipe.name, "state dict", "the loss of the model that was saved")


def _check_predictions(recipe: Recipe, model: Any) -> None:
    needs = frozenset(model.objectives[NAME].needs)
    inputs, samples = random_batch()
    before = set(samples[0].keys())
    for keys in (needs, *({key} for key in sorted(needs))):
        model.set_predictions(keys)
        predicted = model(inputs, copy.deepcopy(samples), mode="predict")
        written = set().union(*(set(sample.keys()) for sample in predicted)) - before
        missing = sorted(set(keys) - written)
        require(not missing, recipe.name, "needs", f"predict({sorted(keys)}) without {missing}", "all keys")
        if keys == needs:
            continue
        extra = sorted(written & needs - set(keys))
        require(not extra, recipe.name, "needs", f"predict({sorted(keys)}) also writes {extra}", "only this key")
    undeclared = sorted(written - needs) if needs else []
    require(not undeclared, recipe.name, "needs", f"undeclared keys {undeclared}", f"some of {sorted(needs)}")
    empty_inputs, empty_samples = random_batch(empty=True)
    model.set_predictions(needs)
    model(empty_inputs, empty_samples, mode="predict")
    model.set_predictions(None)
