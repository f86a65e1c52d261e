"""Properties that every module of a vision model shares."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ctvlm.testing.building import Recipe
from ctvlm.testing.inputs import BATCH_SIZES, GRID, GRIDS
from ctvlm.testing.require import require, require_close, require_finite
from ctvlm.testing.tensors import loss_of, take_case, tensors_of

# Positional arguments of ``forward`` from (module, batch size, patch grid).
MakeInputs = Callable[[nn.Module, int, tuple[int, int, int]], tuple]
# Raises an error if an output has the wrong shape; from (output, module, batch size, patch grid).
CheckShape = Callable[[Any, nn.Module, int, tuple[int, int, int]], None]


def check_common(recipe: Recipe, make_inputs: MakeInputs, check_shape: CheckShape, batched: bool = True) -> None:
    """Check what the framework requires of every module.

    Properties: ``picklable config``, ``module``, ``shape``, ``finite``, ``inputs unchanged``, ``deterministic``,
    ``batch independence``, ``gradients``, ``bfloat16``, ``activation checkpointing``, ``state dict``.

    Args:
        batched: the output has one row per case; False for position codes that all cases share.
    """
    recipe.check_config()
    recipe.check_module()
    _check_shapes(recipe, make_inputs, check_shape)
    _check_eval(recipe, make_inputs, batched)
    _check_gradients(recipe, make_inputs)
    _check_bfloat16(recipe, make_inputs)
    _check_checkpointing(recipe, make_inputs)
    _check_state_dict(recipe, make_inputs)


def seeded(make_inputs: MakeInputs, module: nn.Module, batch: int, grid: tuple[int, int, int], seed: int = 1) -> tuple:
    """Inputs of a fixed random seed."""
    torch.manual_seed(seed)
    return make_inputs(module, batch, grid)


@torch.no_grad()
def _check_shapes(recipe: Recipe, make_inputs: MakeInputs, check_shape: CheckShape) -> None:
    module = recipe.build().eval()
    for grid in GRIDS:
        for batch in BATCH_SIZES:
            output = module(*seeded(make_inputs, module, batch, grid))
            check_shape(output, module, batch, grid)
            require_finite(output, recipe.name, "finite", f"grid {grid}, batch {batch}")


@torch.no_grad()
def _check_eval(recipe: Recipe, make_inputs: MakeInputs, batched: bool) -> None:
    module = recipe.build().eval()
    inputs = seeded(make_inputs, module, 3, GRID)
    before = copy.deepcopy(inputs)
    output = module(*inputs)
    same = all(torch.equal(a, b) for a, b in zip(tensors_of(inputs), tensors_of(before)))
    require(same, recipe.name, "inputs unchanged", "an input changed in place", "inputs as they were")
    torch.manual_seed(99)
    again = tensors_of(module(*copy.deepcopy(before)))
    same = all(torch.equal(a, b) for a, b in zip(tensors_of(output), again))
    require(same, recipe.name, "deterministic", "two results of one input in eval mode", "the same numbers")
    if not batched:
        return
    for number in range(3):
        alone = module(*take_case(before, number))
        what = f"case {number} alone as in a batch of 3"
        require_close(alone, take_case(output, number), recipe.name, "batch independence", what)


def _check_gradients(recipe: Recipe, make_inputs: MakeInputs) -> None:
    module = recipe.build().train()
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not parameters:
        return
    loss_of(module(*seeded(make_inputs, module, 3, GRID))).backward()
    grads = {name: p.grad for name, p in parameters.items()}
    missing = [name for name, grad in grads.items() if grad is None or not bool(grad.abs().sum() > 0)]
    require(not missing, recipe.name, "gradients", f"no gradient of {missing}", "a gradient of every parameter")
    finite = all(bool(torch.isfinite(grad).all()) for grad in grads.values() if grad is not None)
    require(finite, recipe.name, "gradients", "NaN or infinite gradients", "finite gradients")


def _check_bfloat16(recipe: Recipe, make_inputs: MakeInputs) -> None:
    module = recipe.build().eval()
    inputs = seeded(make_inputs, module, 2, GRID)
    full = tensors_of(module(*inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = tensors_of(module(*inputs))
        loss = loss_of(half)
    require_finite(half, recipe.name, "bfloat16", "bfloat16 autocast")
    for a, b in zip(full, half):
        a, b = a.detach(), b.detach()
        difference, limit = float((a - b).abs().max()), float(0.05 * a.abs().max() + 0.02)
        found, expected = f"a difference of {difference:.3g}", f"at most {limit:.3g} from float32"
        require(difference <= limit, recipe.name, "bfloat16", found, expected)
    if loss.requires_grad:
        loss.backward()
        finite = all(bool(torch.isfinite(p.grad).all()) for p in module.parameters() if p.grad is not None)
        require(finite, recipe.name, "bfloat16", "NaN or infinite gradients", "finite gradients")


def _check_checkpointing(recipe: Recipe, make_inputs: MakeInputs) -> None:
    results = []
    for recompute in (False, True):
        module = recipe.build().train()
        inputs = seeded(make_inputs, module, 2, GRID)
        torch.manual_seed(3)  # dropout and drop path draw the same numbers in both runs
        if recompute and hasattr(module, "checkpointed"):
            module.checkpointed = [True] * len(module.checkpointed)
            output = module(*inputs)
        elif recompute:
            output = checkpoint(module, *inputs, use_reentrant=False)
        else:
            output = module(*inputs)
        loss = loss_of(output)
        if loss.requires_grad:
            loss.backward()
        grads = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        results.append((output, grads))
    (plain, plain_grads), (recomputed, recomputed_grads) = results
    what = "the result without activation checkpointing"
    require_close(recomputed, plain, recipe.name, "activation checkpointing", what)
    require_close(recomputed_grads, plain_grads, recipe.name, "activation checkpointing", "the same gradients")


@torch.no_grad()
def _check_state_dict(recipe: Recipe, make_inputs: MakeInputs) -> None:
    source, target = recipe.build(seed=0).eval(), recipe.build(seed=1).eval()
    for parameter in source.parameters():  # zero-initialised weights would hide a missing one
        parameter.add_(0.1 * torch.rand_like(parameter))
    try:
        target.load_state_dict(source.state_dict())
    except RuntimeError as error:
        require(False, recipe.name, "state dict", str(error), "a state dict that loads strictly")
    inputs = seeded(make_inputs, source, 2, GRID)
    what = "the output of the module that was saved"
    require_close(target(*inputs), source(*inputs), recipe.name, "state dict", what)
