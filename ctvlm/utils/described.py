"""Describe transforms and other objects identically in all processes."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np


def described(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """JSON content that identifies a transform, a function or an array, without addresses in memory.

    An object is described by its class and attributes, a function by its name, code, defaults and captured values.

    Args:
        inside: ids of the objects that contain ``value``.
    """
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if id(value) in inside:
        return "..."
    parts = _parts(value)
    if isinstance(parts, dict):
        return {str(key): described(item, (*inside, id(value))) for key, item in parts.items()}
    return [described(item, (*inside, id(value))) for item in parts] if isinstance(parts, list) else parts


def _parts(value: Any) -> Any:
    """Containers or text; their items are described next."""
    if isinstance(value, (list, tuple, dict)):
        return value if isinstance(value, dict) else list(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, (PurePath, bytes)):
        return repr(value)
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    if isinstance(value, partial):
        return ["partial", value.func, value.args, value.keywords]
    if isinstance(value, MethodType):
        return [value.__self__, value.__name__]
    if isinstance(value, CodeType):
        return [value.co_code.hex(), value.co_consts, value.co_names]
    if isinstance(value, FunctionType):
        captured = [cell.cell_contents for cell in value.__closure__ or ()]
        return [_name(value), value.__code__, value.__defaults__, value.__kwdefaults__, captured]
    if hasattr(value, "__qualname__"):  # a class, or a function in C
        return _name(value)
    if hasattr(value, "__dict__"):
        return [_name(type(value)), vars(value)]
    text = repr(value)
    return _name(type(value)) if " at 0x" in text else text


def _name(item: Any) -> str:
    return f"{item.__module__}.{item.__qualname__}"
