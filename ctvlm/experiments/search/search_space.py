"""Read and check the search space of a config: its ``tune`` dictionary.

tune = dict(
    metric="retrieval/t2i_MRR",
    direction="maximize",
    prune=True,  # optional: stop trials whose validation metric is worse than the median
    space={
        "optim_wrapper.optimizer.lr": dict(low=1e-4, high=3e-3, log=True),
        "model.backbone.block.attention.type": ["SliceAwareAttention", "AxialAttention"],
    },
)

Keys have the form of ``--cfg-options``. A list contains choices (numbers, strings, booleans, None, or lists of them). A
dict is a range, optionally with ``log`` or ``step``; it is a range of integers if both bounds are integers.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

from mmengine.config import Config, DictAction
from mmengine.evaluator import BaseMetric

from ctvlm.engine.cli.config import ConfigError
from ctvlm.engine.cli.evaluator_config import metric_configs, without_dumps
from ctvlm.engine.cli.registries import all_registries
from ctvlm.evaluation import CaseMetric
from ctvlm.registry import METRICS


class Trial(Protocol):
    """The methods of Optuna's trial that a search calls."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str: ...
    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = ..., log: bool = ...
    ) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = ..., log: bool = ...) -> int: ...


@dataclass(frozen=True)
class Choice:
    """One of several values, each written as for ``--cfg-options``."""

    key: str
    texts: tuple[str, ...]

    def suggest(self, trial: Trial) -> str:
        return trial.suggest_categorical(self.key, self.texts)


@dataclass(frozen=True)
class Range:
    """A number between ``low`` and ``high``, both included."""

    key: str
    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The two bounds as text."""
        return repr(self.low), repr(self.high)

    def suggest(self, trial: Trial) -> str:
        if isinstance(self.low, int) and isinstance(self.high, int):
            return repr(trial.suggest_int(self.key, self.low, self.high, log=self.log, step=int(self.step or 1)))
        return repr(trial.suggest_float(self.key, float(self.low), float(self.high), log=self.log, step=self.step))


@dataclass(frozen=True)
class Search:
    """A checked ``tune``."""

    metric: str
    direction: str
    space: tuple[Choice | Range, ...]
    prune: bool = False

    def suggest(self, trial: Trial) -> list[str]:
        """Sample each parameter; returns ``key=value`` options for ``--cfg-options``."""
        return [f"{parameter.key}={parameter.suggest(trial)}" for parameter in self.space]


def read_search(cfg: Config) -> Search:
    """Read and check the search space of a config.

    Raises:
        ConfigError: the config has no ``tune``; a key or component does not fit the config; a range or list of choices
            is invalid; or validation does not report the metric.
    """
    tune = cfg.get("tune")
    if not isinstance(tune, Mapping):
        raise ConfigError(f"config {cfg.filename} has no tune=dict(metric=..., direction=..., space={{...}})")
    expected = {"metric", "direction", "space", "prune"}
    for key in tune:
        if key not in expected:
            raise ConfigError(f"tune has no '{key}'{_hint(key, expected)}")
    if tune.get("direction") not in ("maximize", "minimize"):
        raise ConfigError(f"tune.direction is {tune.get('direction')!r}; expected 'maximize' or 'minimize'")
    if not isinstance(tune.get("space"), Mapping) or not tune["space"]:
        raise ConfigError("tune.space is empty; expected keys of the config, each with its choices or range")
    _check_metric(cfg, tune.get("metric"))
    space = tuple(_parameter(key, value) for key, value in tune["space"].items())
    for parameter in space:
        _check_key(cfg, parameter)
    return Search(tune["metric"], tune["direction"], space, bool(tune.get("prune", False)))


def option_text(value: Any) -> str:
    """Format a value for ``--cfg-options``.

    Raises:
        ValueError: ``--cfg-options`` would read the text as another value.
    """
    text = _text(value)
    is_list = any(mark in text for mark in ",[(")
    parsed = DictAction._parse_iterable(text) if is_list else DictAction._parse_int_float_bool(text)
    if parsed != value or type(parsed) is not type(value):
        raise ValueError(f"{value!r} would be read as {parsed!r}")
    return text


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        inner = ",".join(_text(item) for item in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    return value if isinstance(value, str) else repr(value)


def _parameter(key: str, declared: Any) -> Choice | Range:
    name = f"tune.space['{key}']"
    if isinstance(declared, (list, tuple)):
        try:
            texts = tuple(option_text(list(v) if isinstance(v, tuple) else v) for v in declared)
        except (ValueError, SyntaxError, AssertionError) as error:
            raise ConfigError(f"{name}: a choice cannot be written for --cfg-options: {error}") from None
        if len(set(texts)) < max(2, len(texts)):
            raise ConfigError(f"{name} has the choices {list(texts)}; expected at least two different ones")
        return Choice(key, texts)
    if not isinstance(declared, Mapping) or not {"low", "high"} <= set(declared) <= {"low", "high", "log", "step"}:
        raise ConfigError(f"{name} is {declared!r}; expected a list of choices, or dict(low=, high=, log=, step=)")
    for bound in ("low", "high", "step"):
        number = declared.get(bound, 1)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise ConfigError(f"{name}: {bound} is {number!r}; expected a number")
    parameter = Range(key, **declared)
    if not parameter.low < parameter.high or (parameter.log and parameter.low <= 0):
        raise ConfigError(
            f"{name} has low={parameter.low} and high={parameter.high}; expected low < high, and low > 0 with log"
        )
    if parameter.step is not None and (parameter.log or parameter.step <= 0):
        raise ConfigError(f"{name}: step is {parameter.step}; expected a positive number, and no step with log")
    if isinstance(parameter.low, int) and isinstance(parameter.high, int) and isinstance(parameter.step, float):
        raise ConfigError(f"{name}: step is {parameter.step}, but low and high are integers: write them as floats")
    return parameter


def _check_key(cfg: Config, parameter: Choice | Range) -> None:
    *parents, leaf = parameter.key.split(".")
    node, path = cfg._cfg_dict, ""
    for part in parents:
        node = _child(node, part, path, parameter.key)
        path = f"{path}.{part}" if path else part
    components = _components(node.get("type")) if isinstance(node, Mapping) else []
    if leaf == "type" and isinstance(node, Mapping) and "type" in node:
        for text in parameter.texts:
            _check_component(node, text, parameter.key)
    elif not isinstance(node, Mapping) or leaf not in node:
        accepted = {name for component in components for name in _arguments(component)}
        if leaf not in accepted:
            _child(node, leaf, path, parameter.key, accepted)


def _child(node: Any, part: str, path: str, key: str, accepted: Collection[str] = ()) -> Any:
    """Return the element ``part`` of a dict or list of the config, which is at ``path``."""
    if isinstance(node, Mapping) and part in node:
        return node[part]
    if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
        return node[int(part)]
    location = f"in '{path}' of the config" if path else "in the config"
    known = {*node, *accepted} if isinstance(node, Mapping) else {str(i) for i in range(len(node or ()))}
    raise ConfigError(f"tune.space['{key}']: there is no '{part}' {location}{_hint(part, known)}")


def _check_component(node: Mapping, name: str, key: str) -> None:
    """Check that ``name`` is registered where the current type is, and accepts the other keys of ``node``."""
    registries = [registry for registry in all_registries() if registry.get(node["type"]) is not None]
    component = next((registry.get(name) for registry in registries if registry.get(name) is not None), None)
    if component is None:
        names = {other for registry in registries for other in registry.module_dict}
        raise ConfigError(
            f"tune.space['{key}']: '{name}' is not in the registry of '{node['type']}'{_hint(name, names)}"
        )
    accepted = _arguments(component)
    for argument in set(node) - {"type"}:
        if accepted and argument not in accepted:
            raise ConfigError(
                f"tune.space['{key}']: {name} takes no '{argument}', which the config sets for the current type: "
                "remove the argument or this choice"
            )


def _check_metric(cfg: Config, metric: Any) -> None:
    configs = without_dumps(metric_configs(cfg, "val_evaluator"))
    if not configs or cfg.get("val_cfg") is None:
        raise ConfigError(f"config {cfg.filename} does not validate: a search needs val_evaluator and val_cfg")
    known: set[str] = set()
    for built in map(METRICS.build, configs):
        prefix = built.prefix or built.default_prefix or ""
        if isinstance(built, CaseMetric):
            known |= set(built.metric_names())
            # The names of per-finding scores depend on the data.
            if getattr(built, "per_finding", False) and str(metric).startswith(f"{prefix}/"):
                return
        elif isinstance(built, BaseMetric) and str(metric).startswith(f"{prefix}/" if prefix else ""):
            return  # for a metric of a plugin, only the prefix is known
    if metric not in known:
        raise ConfigError(
            f"tune.metric is {metric!r}, which validation does not report{_hint(str(metric), known, count=3)}"
        )


def _components(name: Any) -> list[Any]:
    """Every component that is registered under a name."""
    if not isinstance(name, str):
        return []
    components = [registry.get(name) for registry in all_registries()]
    return list({id(component): component for component in components if component is not None}.values())


def _arguments(component: Any) -> set[str]:
    """Argument names of a component, including those of its base classes; empty if it takes any argument."""
    if not inspect.isclass(component):
        return set(inspect.signature(component).parameters)
    names: set[str] = set()
    for cls in inspect.getmro(component):
        if "__init__" in vars(cls) and cls is not object:
            parameters = inspect.signature(vars(cls)["__init__"]).parameters
            names |= set(parameters) - {"self"}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                return names
    return names


def _hint(name: str, known: set[str] | Sequence[str], count: int = 1) -> str:
    matches = get_close_matches(name, sorted(known), n=count, cutoff=0.5)
    if matches:
        return f": did you mean {' or '.join(map(repr, matches))}?"
    return f"; available: {', '.join(sorted(known))}" if known else ""
