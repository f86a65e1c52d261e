"""Contract of metrics (registry METRICS)."""

from __future__ import annotations

import copy
import math
import numbers
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ctvlm.registry import METRICS
from ctvlm.testing.building import Component, Recipe
from ctvlm.testing.require import require, require_error
from ctvlm.testing.samples import predicted_case
from ctvlm.testing.tensors import equal

Scores = dict[str, Any]


def check_metric(component: Component, cases: Sequence[dict] | None = None, **options: Any) -> None:
    """Check a metric of cases, a subclass of CaseMetric.

    Properties: ``picklable config``, ``inputs unchanged``, ``plain values`` (numbers or text), ``order of cases``,
    ``repeated cases`` (samplers repeat cases so that all ranks have equally many), ``needs`` (the declared keys are
    all that the metric reads), ``optional needs`` (samples may lack them), ``no cases`` (the same names with NaN, or 0
    for counts), ``metric names``, ``case_id`` (required).

    A metric with ``prompts()`` receives random embeddings of them.

    Args:
        component: class, registered name, or config.
        cases: dicts of annotations and predictions, as ``CTDataSample.to_dict`` gives them; random ones by default.
        options: constructor arguments.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(METRICS, component, options)
    recipe.check_config()
    name = recipe.name
    cases = [predicted_case(number).to_dict() for number in range(9)] if cases is None else list(cases)

    before = copy.deepcopy(cases)
    scores = _evaluate(recipe, cases)
    require(equal(before, cases), name, "inputs unchanged", "a data sample that changed", "samples as they were")
    require(scores, name, "plain values", "no result", "at least one")
    for key, value in scores.items():
        plain = isinstance(value, (numbers.Number, str))
        require(plain, name, "plain values", f"{key} of type {type(value).__name__}", "a number or text")

    order = list(np.random.default_rng(0).permutation(len(cases)))
    _require_same(_evaluate(recipe, [cases[i] for i in order], batch=2), scores, name, "order of cases")
    repeated = [cases[0], *cases, *cases[:2]]
    _require_same(_evaluate(recipe, repeated, size=len(cases)), scores, name, "repeated cases")
    _check_needs(recipe, cases, scores)
    _check_names(recipe, scores)

    metric = _build(recipe)
    anonymous = {key: value for key, value in cases[0].items() if key != "case_id"}
    require_error(lambda: metric.process(None, [anonymous]), ValueError, ("case_id",), name, "case_id")


def _check_needs(recipe: Recipe, cases: list[dict], scores: Scores) -> None:
    metric = _build(recipe)
    needs = metric.needs
    if needs is None:
        return
    ids = {"case_id", "patient_id"}
    declared = [{key: value for key, value in case.items() if key in needs | ids} for case in cases]
    try:
        found = _evaluate(recipe, declared)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        require(False, recipe.name, "needs", f"{type(error).__name__}: {error}", f"{sorted(needs)} to be sufficient")
        return
    _require_same(found, scores, recipe.name, "needs")
    required = needs - metric.optional_needs
    try:
        _evaluate(recipe, [{key: case[key] for key in case if key in required | ids} for case in cases])
    except (KeyError, AttributeError, TypeError) as error:
        expected = f"no error without {sorted(metric.optional_needs)}"
        require(False, recipe.name, "optional needs", f"{type(error).__name__}: {error}", expected)


def _check_names(recipe: Recipe, scores: Scores) -> None:
    metric = _build(recipe)
    empty = metric.score([])
    for key, value in empty.items():
        fits = isinstance(value, str) or value == 0 or math.isnan(value)
        require(fits, recipe.name, "no cases", f"{key} = {value}", "NaN, a count of 0, or text")
    unknown = sorted(set(empty) - {key.split("/", 1)[-1] for key in scores})
    require(not unknown, recipe.name, "no cases", f"names {unknown}", "only names that results have")
    names = metric.metric_names()
    require(set(names) & set(scores), recipe.name, "metric names", names, f"some of {sorted(scores)}")


def _build(recipe: Recipe) -> Any:
    metric = recipe.build()
    if hasattr(metric, "prompts"):
        metric.set_prompt_embeddings({text: _embedding(text) for text in metric.prompts()}, scale=10.0)
    return metric


def _embedding(text: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(text.encode()))
    return torch.nn.functional.normalize(torch.randn(6, generator=generator), dim=0)


def _evaluate(recipe: Recipe, cases: Sequence[dict], batch: int = 3, size: int | None = None) -> Scores:
    metric = _build(recipe)
    for start in range(0, len(cases), batch):
        metric.process(None, cases[start : start + batch])
    return metric.evaluate(len(cases) if size is None else size)


def _require_same(found: Scores, expected: Scores, component: str, name: str) -> None:
    require(found.keys() == expected.keys(), component, name, sorted(found), sorted(expected))
    for key, value in expected.items():
        if isinstance(value, str):
            same = found[key] == value
        else:
            same = bool(np.isclose(found[key], value, rtol=1e-6, atol=1e-6, equal_nan=True))
        require(same, component, name, f"{key} = {found[key]}", value)
