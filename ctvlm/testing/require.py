"""Failure of a check: which component, which property, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ctvlm.testing.tensors import tensors_of


def require(condition: Any, component: str, name: str, found: Any, expected: Any) -> None:
    """Raise an error unless the condition is true.

    Raises:
        AssertionError: ``component: property 'name': found ...; expected ...``.
    """
    if not condition:
        raise AssertionError(f"{component}: property '{name}': found {found}; expected {expected}")


def require_close(
    found: Any, expected: Any, component: str, name: str, what: str, rtol: float = 1e-4, atol: float = 1e-5
) -> None:
    """Require that the floating-point tensors of two outputs are equal up to rounding.

    Args:
        what: description of the expected result, for the message.
    """
    left, right = tensors_of(found), tensors_of(expected)
    require(len(left) == len(right), component, name, f"{len(left)} tensors", f"{len(right)} tensors, {what}")
    for a, b in zip(left, right):
        require(a.shape == b.shape, component, name, f"shape {tuple(a.shape)}", f"shape {tuple(b.shape)}, {what}")
        a, b = a.detach().double(), b.detach().double()
        difference = float((a - b).abs().max()) if a.numel() else 0.0
        limit = atol + rtol * (float(b.abs().max()) if b.numel() else 0.0)
        require(
            difference <= limit, component, name, f"a difference of {difference:.3g}", f"at most {limit:.3g}, {what}"
        )


def require_shape(tensor: Tensor, shape: tuple[int, ...], component: str, name: str, context: str) -> None:
    """Require a tensor of exactly this shape."""
    require(isinstance(tensor, Tensor), component, name, f"{type(tensor).__name__} for {context}", "a tensor")
    require(tuple(tensor.shape) == shape, component, name, f"{tuple(tensor.shape)} for {context}", shape)


def require_finite(output: Any, component: str, name: str, context: str) -> None:
    """Require at least one floating-point tensor, all of them finite."""
    tensors = tensors_of(output)
    require(tensors, component, name, f"no floating-point tensor for {context}", "at least one")
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
    require(finite, component, name, f"NaN or infinite numbers for {context}", "finite numbers")


def require_error(
    call: Callable[[], Any], error: type[Exception], parts: tuple[str, ...], component: str, name: str
) -> None:
    """Require that ``call`` raises ``error`` with every string of ``parts`` in its message."""
    expected = f"{error.__name__} with {', '.join(map(repr, parts)) or 'any text'} in its message"
    try:
        call()
    except error as caught:
        missing = [part for part in parts if part not in str(caught)]
        require(not missing, component, name, f"the message {str(caught)!r}", expected)
    else:
        require(False, component, name, "no error", expected)
