"""Tensors inside inputs and outputs, whatever their container."""

from __future__ import annotations

import dataclasses
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor


def tensors_of(value: Any) -> list[Tensor]:
    """All floating-point tensors in a tensor, dataclass, list, tuple or dict, in order."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value) if field.name != "cache"]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_of(item)]
    return []


def take_case(value: Any, number: int) -> Any:
    """Case ``number`` of a batch, as a batch of one. Tensors have the batch as first dimension."""
    if isinstance(value, Tensor):
        return value[number : number + 1]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: take_case(getattr(value, field.name), number) for field in dataclasses.fields(value)}
        if "cache" in fields:
            fields["cache"] = {}
        return dataclasses.replace(value, **fields)
    if isinstance(value, (list, tuple)):
        return type(value)(take_case(item, number) for item in value)
    return value


def converted(value: Any, dtype: torch.dtype) -> Any:
    """The same containers with all floating-point tensors in ``dtype``."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: converted(getattr(value, field.name), dtype) for field in dataclasses.fields(value)}
        if "cache" in fields:
            fields["cache"] = {}
        return dataclasses.replace(value, **fields)
    if isinstance(value, (list, tuple)):
        return type(value)(converted(item, dtype) for item in value)
    return value


def loss_of(output: Any) -> Tensor:
    """A scalar that depends on every entry of the output, each with another weight."""
    generator = torch.Generator().manual_seed(2)
    total = torch.zeros(())
    for tensor in tensors_of(output):
        weight = torch.randn(tensor.shape, generator=generator).to(tensor)
        total = total + (tensor * weight).sum() / max(tensor.numel(), 1) ** 0.5
    return total


def equal(left: Any, right: Any) -> bool:
    """Whether two values are equal, with all tensors, arrays and containers in them. NaN equals NaN."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return (
            left.shape == right.shape
            and left.dtype == right.dtype
            and torch.equal(left.isnan(), right.isnan())
            and (torch.equal(left.nan_to_num(), right.nan_to_num()))
        )
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    if isinstance(left, BaseDataElement) and isinstance(right, BaseDataElement):
        return equal(left.to_dict(), right.to_dict())
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(equal, left, right))
    if is_dataclass(left) and type(left) is type(right):
        return equal(vars(left), vars(right))
    return bool(left == right) or (isinstance(left, float) and left != left and right != right)
