"""A training step neither reads values from the device nor waits for it.

The device is torch's ``meta`` device, whose tensors have no values: whatever needs one fails, as do operators whose
result has a shape that depends on values. Only what the model keeps on the host (samples, texts, masks of patches) has
values.
"""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ctvlm.registry import MODELS
from ctvlm.testing.objectives import LABELS, NAME, REGIONS, random_batch, small_model

DEVICE = torch.device("meta")
# These wait for a GPU. A boolean index calls nonzero.
SYNCHRONISING = (
    "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "bincount", "unique_dim",
    "_unique2", "unique_consecutive", "repeat_interleave.Tensor", "histc", "linalg_eigh",
)  # fmt: skip


class NoSynchronisation(TorchDispatchMode):
    """Refuse operators that read values of the device, and copies from the host that wait for the device."""

    def __init__(self):
        super().__init__()
        self.copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_device = any(tensor.device == DEVICE for tensor in given)
        name = func._schema.name.removeprefix("aten::")
        assert not (on_device and name in SYNCHRONISING), f"{name} waits for the device"
        out = func(*args, **kwargs)
        if name == "lift_fresh" and on_device:
            raise AssertionError("torch.tensor(..., device=...) waits for the device")
        if name in ("_to_copy", "copy_"):
            self.check_copy(name, given, out, args, kwargs)
        return out

    def check_copy(self, name, given, out, args, kwargs):
        source = given[-1]
        if source.device == DEVICE or out.device != DEVICE:
            return
        non_blocking = kwargs.get("non_blocking", args[2] if name == "copy_" and len(args) > 2 else False)
        assert non_blocking, "a copy from the host without non_blocking waits for the device"
        self.copies += 1
