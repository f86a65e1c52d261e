"""Messages for mistyped keys of a config, which mmengine passes as arguments to a component."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from difflib import get_close_matches
from types import FrameType
from typing import Any

from ctvlm.engine.cli.config_items import config_items
from ctvlm.engine.cli.required_keys import missing_key

_UNEXPECTED = re.compile(r"([\w.]+)\(\) got an unexpected keyword argument '(\w+)'")
_WITHOUT_TYPE = 'must contain the key "type"'
_BUILD = "mmengine/registry/build_functions.py"
# Packages that pass the values of a config on as arguments.
_CALLERS = ("/mmengine/", "/torch/")
# Functions between the construction of a component and the constructor that has no such argument.
_CONSTRUCTORS = {"__init__", "__call__", "__new__", "get_instance", "build_from_cfg"}


def unexpected_argument(error: TypeError) -> str | None:
    """Message for an argument that a component of the config does not have; None if the error is a bug."""
    match = _UNEXPECTED.search(str(error))
    frames = _frames(error)
    if match is None or not frames:
        return None
    function, key = match.groups()
    builds = [number for number, frame in enumerate(frames) if _is_build(frame)]
    component: Any = None
    if builds and key in frames[builds[-1]].f_locals.get("args", ()):
        after = frames[builds[-1] + 1 :]
        if any(frame.f_code.co_name not in _CONSTRUCTORS for frame in after):
            return None
        component = frames[builds[-1]].f_locals.get("obj_cls")
    places = [path for path, _ in config_items(_config(frames)) if path.rpartition(".")[2] == key]
    if component is None and not (places and any(part in _file(frames[-1]) for part in _CALLERS)):
        return None
    known = {*_parameters(component), *_parameters(_named(function, frames[-1]))}
    name = getattr(component, "__name__", function.removesuffix(".__init__"))
    return f"{_listed(places) or 'config'}: {name} has no argument '{key}'{_hint(key, known)}"


def missing_type(error: KeyError) -> str | None:
    """Message for a component of the config without ``type``; None for other errors."""
    frames = _frames(error)
    if _WITHOUT_TYPE not in str(error) or not frames or not _is_build(frames[-1]):
        return None
    found, config = frames[-1].f_locals.get("cfg", {}), _config(frames)
    places = [path for path, value in config_items(config) if isinstance(value, Mapping) and value == found]
    text = missing_key(_listed(places) or "config", found, "type")
    if text.endswith("?"):
        return text
    for parent, _, key in (path.rpartition(".") for path in places):
        siblings = [name for name in _value(config, parent) if name != key]
        if near := get_close_matches(key, siblings, n=1):
            return f"{text}, or did you mean '{f'{parent}.' if parent else ''}{near[0]}'?"
    return text


def _frames(error: BaseException) -> list[FrameType]:
    """Frames of the traceback, the outermost first."""
    frames, step = [], error.__traceback__
    while step is not None:
        frames.append(step.tb_frame)
        step = step.tb_next
    return frames


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename.replace("\\", "/")


def _is_build(frame: FrameType) -> bool:
    return _file(frame).endswith(_BUILD) and frame.f_code.co_name == "build_from_cfg"


def _config(frames: list[FrameType]) -> dict:
    """The config of the runner that called the component; empty without a runner."""
    for frame in frames:
        to_dict = getattr(getattr(frame.f_locals.get("self"), "cfg", None), "to_dict", None)
        if callable(to_dict):
            return to_dict()
    return {}


def _value(config: Any, path: str) -> Any:
    return dict(config_items(config))[path] if path else config


def _named(function: str, caller: FrameType) -> Any:
    """The function of an error message, looked up where it was called."""
    first, *rest = function.split(".")
    found = caller.f_locals.get(first, caller.f_globals.get(first))
    for name in rest:
        found = getattr(found, name, None)
    return found


def _parameters(function: Any) -> set[str]:
    """Names of the parameters of a function, or of the constructors of a class and its base classes."""
    if not callable(function):
        return set()
    functions = [vars(cls).get("__init__") for cls in function.__mro__] if inspect.isclass(function) else [function]
    names: set[str] = set()
    for each in filter(inspect.isfunction, functions):
        kinds = inspect.signature(each).parameters.values()
        names |= {item.name for item in kinds if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)}
    return names - {"self"}


def _hint(key: str, known: set[str]) -> str:
    if matches := get_close_matches(key, sorted(known), n=1):
        return f"; did you mean '{matches[0]}'?"
    return f"; its arguments are: {', '.join(sorted(known))}" if known else ""


def _listed(places: list[str]) -> str:
    return ", ".join(places[:3])
