"""What a hyperparameter search varies: the ``tune`` of a config, checked before anything runs.

tune = dict(
    metric="retrieval/t2i_MRR",
    direction="maximize",
    prune=True,  # optional: stop trials that do worse than the median at their validations
    space={
        "optim_wrapper.optimizer.lr": dict(low=1e-4, high=3e-3, log=True),
        "model.backbone.attention.type": ["SliceAwareAttention", "AxialAttention"],
    },
)

Keys are those of ``--cfg-options``. A list names choices (numbers, words, True, None, or lists of them); a dict a
range, of whole numbers where both ends are whole, with ``log`` or ``step``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

import mmengine.registry
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import Registry

import ctvlm.registry
from ctvlm.engine.cli.config import ConfigError
from ctvlm.engine.cli.config_options import ConfigOptions
from ctvlm.engine.cli.evaluator_config import metric_configs, without_dumps
from ctvlm.evaluation import CaseMetric
from ctvlm.registry import METRICS


class Trial(Protocol):
    """What is used of Optuna's trial."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str: ...
    def suggest_float(self, name: str, low: float, high: float, **kwargs: Any) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, **kwargs: Any) -> int: ...


@dataclass(frozen=True)
class Choice:
    """One of several values, each as the text that ``--cfg-options`` reads as that value."""

    key: str
    texts: tuple[str, ...]

    def suggest(self, trial: Trial) -> str:
        return trial.suggest_categorical(self.key, self.texts)


@dataclass(frozen=True)
class Range:
    """A number from ``low`` to ``high``, both included."""

    key: str
    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The two ends, as text."""
        return repr(self.low), repr(self.high)

    def suggest(self, trial: Trial) -> str:
        if isinstance(self.low, int) and isinstance(self.high, int):
            return repr(trial.suggest_int(self.key, self.low, self.high, log=self.log, step=self.step or 1))
        return repr(trial.suggest_float(self.key, float(self.low), float(self.high), log=self.log, step=self.step))


@dataclass(frozen=True)
class Search:
    """A checked ``tune``."""

    metric: str
    direction: str
    space: tuple[Choice | Range, ...]
    prune: bool = False

    def suggest(self, trial: Trial) -> list[str]:
        """``key=value`` of each varied key, for ``--cfg-options``."""
        return [f"{parameter.key}={parameter.suggest(trial)}" for parameter in self.space]


def read_search(cfg: Config) -> Search:
    """The search that a config declares.

    Raises:
        ConfigError: there is none, a key or a component that the config has no place for, a range or choice that is
            none, or a metric that the config's validation does not report.
    """
    tune = cfg.get("tune")
    if not isinstance(tune, Mapping):
        raise ConfigError(f"the config {cfg.filename} has no tune=dict(metric=..., direction=..., space={{...}})")
    expected = {"metric", "direction", "space", "prune"}
    for key in tune:
        if key not in expected:
            raise ConfigError(f"tune has no '{key}'{_hint(key, expected)}")
    if tune.get("direction") not in ("maximize", "minimize"):
        raise ConfigError(f"tune.direction is {tune.get('direction')!r}: expected 'maximize' or 'minimize'")
    if not isinstance(tune.get("space"), Mapping) or not tune["space"]:
        raise ConfigError("tune.space is empty: expected keys of the config, each with its choices or range")
    _check_metric(cfg, tune.get("metric"))
    space = tuple(_parameter(key, value) for key, value in tune["space"].items())
    for parameter in space:
        _check_key(cfg, parameter)
    return Search(tune["metric"], tune["direction"], space, bool(tune.get("prune", False)))


def option_text(value: Any) -> str:
    """A value as the text that ``--cfg-options`` reads as the same value.

    Raises:
        ValueError: there is no such text.
    """
    text = _text(value)
    is_list = any(mark in text for mark in ",[(")
    read = ConfigOptions._parse_iterable(text) if is_list else ConfigOptions._parse_int_float_bool(text)
    if read != value or type(read) is not type(value):
        raise ValueError(f"{value!r} would be read as {read!r}")
    return text


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        inner = ",".join(_text(item) for item in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    return value if isinstance(value, str) else repr(value)


def _parameter(key: str, declared: Any) -> Choice | Range:
    where = f"tune.space['{key}']"
    if isinstance(declared, (list, tuple)):
        try:
            texts = tuple(option_text(list(v) if isinstance(v, tuple) else v) for v in declared)
        except (ValueError, SyntaxError, AssertionError) as error:
            raise ConfigError(f"{where}: a choice cannot be given on the command line: {error}") from None
        if len(set(texts)) < max(2, len(texts)):
            raise ConfigError(f"{where} has the choices {list(texts)}: expected two or more that differ")
        return Choice(key, texts)
    if not isinstance(declared, Mapping) or not {"low", "high"} <= set(declared) <= {"low", "high", "log", "step"}:
        raise ConfigError(f"{where} is {declared!r}: expected a list of choices, or dict(low=, high=, log=, step=)")
    for bound in ("low", "high", "step"):
        number = declared.get(bound, 1)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise ConfigError(f"{where}: {bound} is {number!r}, expected a number")
    parameter = Range(key, **declared)
    if not parameter.low < parameter.high or (parameter.log and parameter.low <= 0):
        raise ConfigError(
            f"{where} runs from {parameter.low} to {parameter.high}: expected low < high, above 0 with log"
        )
    if parameter.step is not None and (parameter.log or parameter.step <= 0):
        raise ConfigError(f"{where}: step is {parameter.step}: expected a number above 0, and none with log")
    if isinstance(parameter.low, int) and isinstance(parameter.high, int) and isinstance(parameter.step, float):
        raise ConfigError(f"{where}: step is {parameter.step} between whole numbers: write low and high with a point")
    return parameter


def _check_key(cfg: Config, parameter: Choice | Range) -> None:
    *parents, leaf = parameter.key.split(".")
    place, walked = cfg._cfg_dict, ""
    for part in parents:
        place = _step(place, part, walked, parameter.key)
        walked = f"{walked}.{part}" if walked else part
    classes = _classes(place.get("type")) if isinstance(place, Mapping) else []
    if leaf == "type" and isinstance(place, Mapping) and "type" in place:
        for text in parameter.texts:
            _check_component(place, text, parameter.key)
    elif not isinstance(place, Mapping) or leaf not in place:
        accepted = {name for cls in classes for name in _arguments(cls)}
        if leaf not in accepted:
            _step(place, leaf, walked, parameter.key, accepted)


def _step(place: Any, part: str, walked: str, key: str, accepted: set[str] = frozenset()) -> Any:
    """One step down a dotted key."""
    if isinstance(place, Mapping) and part in place:
        return place[part]
    if isinstance(place, (list, tuple)) and part.isdigit() and int(part) < len(place):
        return place[int(part)]
    inside = f"in '{walked}' of the config" if walked else "in the config"
    known = set(place) | accepted if isinstance(place, Mapping) else {str(i) for i in range(len(place or ()))}
    raise ConfigError(f"tune.space['{key}']: there is no '{part}' {inside}{_hint(part, known)}")


def _check_component(place: Mapping, name: str, key: str) -> None:
    """A component of the kind that stands there now, which takes the arguments that stand beside it."""
    kinds = [registry for registry in _registries() if registry.get(place["type"]) is not None]
    found = next((registry.get(name) for registry in kinds if registry.get(name) is not None), None)
    if found is None:
        names = {other for registry in kinds for other in registry.module_dict}
        raise ConfigError(
            f"tune.space['{key}']: '{name}' is not registered where '{place['type']}' is{_hint(name, names)}"
        )
    accepted = _arguments(found)
    for argument in set(place) - {"type"}:
        if accepted and argument not in accepted:
            raise ConfigError(
                f"tune.space['{key}']: {name} takes no '{argument}', which the config sets beside the type: "
                "leave one of the two out"
            )


def _check_metric(cfg: Config, metric: Any) -> None:
    listed = without_dumps(metric_configs(cfg, "val_evaluator"))
    if not listed or cfg.get("val_cfg") is None:
        raise ConfigError(f"the config {cfg.filename} does not validate: a search needs its val_evaluator and val_cfg")
    known: set[str] = set()
    for built in map(METRICS.build, listed):
        prefix = built.prefix or built.default_prefix or ""
        if isinstance(built, CaseMetric):
            known |= set(built.metric_names())
            # Scores of single findings or entities come with the data.
            if getattr(built, "per_finding", False) and str(metric).startswith(f"{prefix}/"):
                return
        elif isinstance(built, BaseMetric) and str(metric).startswith(f"{prefix}/" if prefix else ""):
            return  # of somebody else's metric only the prefix is known
    if metric not in known:
        raise ConfigError(
            f"tune.metric is {metric!r}, which validation does not report{_hint(str(metric), known, count=3)}"
        )


def _registries() -> list[Registry]:
    modules = (ctvlm.registry, mmengine.registry)
    return [value for module in modules for value in vars(module).values() if isinstance(value, Registry)]


def _classes(name: Any) -> list[Any]:
    """Everything registered under a name."""
    if not isinstance(name, str):
        return []
    found = [registry.get(name) for registry in _registries()]
    return list({id(item): item for item in found if item is not None}.values())


def _arguments(component: Any) -> set[str]:
    """Arguments a component can be built with, its bases' included; empty where it takes any."""
    if not inspect.isclass(component):
        return set(inspect.signature(component).parameters)
    names: set[str] = set()
    for cls in inspect.getmro(component):
        if "__init__" in vars(cls) and cls is not object:
            parameters = inspect.signature(cls.__init__).parameters
            names |= set(parameters) - {"self"}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                return names
    return names


def _hint(name: str, known: set[str] | Sequence[str], count: int = 1) -> str:
    near = get_close_matches(name, sorted(known), n=count, cutoff=0.5)
    if near:
        return f": did you mean {' or '.join(repr(n) for n in near)}?"
    return f". There are: {', '.join(sorted(known))}" if known else ""
