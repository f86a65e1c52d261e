"""Contract of losses (registry LOSSES)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ctvlm.registry import LOSSES
from ctvlm.structures import MeanTerms, Pairs
from ctvlm.testing.building import WIDTH, Component, Recipe
from ctvlm.testing.require import require, require_close, require_finite


def check_loss(component: Component, **options: Any) -> None:
    """Check a loss, ``forward(Pairs | MeanTerms)`` to a scalar.

    A loss with a method ``terms`` receives MeanTerms, any other loss Pairs.

    Properties: ``picklable config``, ``module``, ``attributes`` (the bool ``compares_cases``), ``scalar``, ``finite``,
    ``deterministic``, ``state dict``, ``weight`` (``loss_weight`` scales the loss) and

    - for Pairs: ``gradients`` (of both embeddings and all parameters), ``order of pairs``, ``scale of features``
      (embeddings are normalised by the loss), ``matching pairs`` (cost less than pairs of other texts), ``no pairs``
      (zero, with a gradient);
    - for MeanTerms: ``mean`` (sum over count), ``no terms`` (zero).

    Args:
        component: class, registered name, or config.
        options: constructor arguments.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(LOSSES, component, options)
    recipe.check_config()
    recipe.check_module()
    name, loss = recipe.name, recipe.build()
    found = getattr(loss, "compares_cases", None)
    require(isinstance(found, bool), name, "attributes", f"compares_cases = {found}", "True or False")
    features = MeanTerms(torch.tensor([6.0, 4.0])) if hasattr(loss, "terms") else random_pairs()
    value = loss(features)
    fits = isinstance(value, Tensor) and value.shape == ()
    require(fits, name, "scalar", getattr(value, "shape", type(value).__name__), "a tensor without dimensions")
    require_finite(value, name, "finite", "random features")
    require_close(loss(features), value, name, "deterministic", "the same value", atol=0)
    other = recipe.build(seed=1)
    other.load_state_dict(loss.state_dict())
    require_close(other(features), value, name, "state dict", "the value of the loss that was saved")
    weighted = Recipe(LOSSES, component, {**options, "loss_weight": 2 * getattr(loss, "loss_weight", 1.0)}).build()
    require_close(weighted(features), 2 * value, name, "weight", "twice the loss for twice the loss_weight")
    if isinstance(features, MeanTerms):
        expected = torch.tensor(1.5) * loss.loss_weight
        require_close(value, expected, name, "mean", "sum / count")
        empty = MeanTerms(torch.zeros(2))
        require_close(loss(empty), torch.zeros(()), name, "no terms", "zero without terms", atol=0)
    else:
        _check_pairs(recipe, loss, features, value)


def random_pairs(count: int = 6, seed: int = 0) -> Pairs:
    """Pairs of M visual features and texts. The first two texts are equal."""
    generator = torch.Generator().manual_seed(seed)
    visual_MP = torch.randn(count, WIDTH, generator=generator)
    text_MP = visual_MP + torch.randn(count, WIDTH, generator=generator)
    ids_M = torch.arange(count)
    if count > 1:
        ids_M[1], text_MP[1] = ids_M[0], text_MP[0]
    return Pairs(visual_MP.requires_grad_(), text_MP.requires_grad_(), ids_M, torch.arange(count) % 2 + 1)


def _check_pairs(recipe: Recipe, loss: Any, pairs: Pairs, value: Tensor) -> None:
    name = recipe.name
    parameters = dict(loss.named_parameters(), visual_MP=pairs.visual_MP, text_MP=pairs.text_MP)
    value.backward()
    missing = [key for key, p in parameters.items() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    require(not missing, name, "gradients", f"no gradient of {missing}", "a gradient of features and parameters")
    with torch.no_grad():
        order = torch.randperm(len(pairs.text_ids_M), generator=torch.Generator().manual_seed(1))
        assert pairs.region_ids_M is not None
        columns = (pairs.visual_MP, pairs.text_MP, pairs.text_ids_M, pairs.region_ids_M)
        permuted = Pairs(*(column[order] for column in columns))
        require_close(loss(permuted), value, name, "order of pairs", "the same value for pairs in another order")
        scaled = replace(pairs, visual_MP=3 * pairs.visual_MP)
        require_close(loss(scaled), value, name, "scale of features", "the same value for features 3 times as long")
        shuffled = float(loss(replace(pairs, text_MP=pairs.text_MP.roll(2, dims=0))))
        found = f"{float(value):.4g} for matching pairs, {shuffled:.4g} for others"
        require(float(value) < shuffled, name, "matching pairs", found, "a smaller loss of matching pairs")
    none = random_pairs(0)
    empty = loss(none)
    require_finite(empty, name, "no pairs", "no pairs")
    require_close(empty, torch.zeros(()), name, "no pairs", "zero without pairs", atol=0)
    require(empty.requires_grad, name, "no pairs", "a loss without gradient", "a gradient, so that DDP can synchronise")
