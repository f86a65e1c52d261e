"""The Muon optimizer for weight matrices, combined with AdamW for other parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import Tensor, nn

from ctvlm.engine.cli.config import ConfigError
from ctvlm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS

# Coefficients of the quintic iteration that drives singular values towards 1 (Jordan et al., 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
# Smaller matrices are scores or queries, which are vectors with an additional axis.
MIN_SIDE = 16


def orthogonalize(matrix_XIO: Tensor, steps: int = 5) -> Tensor:
    """Set the singular values of matrices (X, I, O) to about 1 by Newton-Schulz iteration; singular vectors stay.

    Singular values of at least 1% of the matrix norm end between 0.6 and 1.2; smaller ones end below. A zero matrix
    stays zero. The result is a polynomial of the gram matrix, times the matrix. If the longer side is at least twice
    the shorter side, the polynomial is computed first, which needs only products of the size of the gram matrix.
    """
    wide = matrix_XIO.shape[1] <= matrix_XIO.shape[2]
    x = matrix_XIO if wide else matrix_XIO.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    x = _by_gram(x, steps) if x.shape[2] >= 2 * x.shape[1] else _by_matrix(x, steps)
    return x if wide else x.mT


def _by_matrix(x: Tensor, steps: int) -> Tensor:
    a, b, c = QUINTIC
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_gram(x: Tensor, steps: int) -> Tensor:
    a, b, c = QUINTIC
    gram = x @ x.mT
    total = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand_as(gram)
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        total = factor @ total if step else factor
        if step < steps - 1:
            gram = factor @ gram @ factor
    return total @ x


@OPTIMIZERS.register_module()
class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) for weight matrices, AdamW for all other parameters.

    The update of a matrix is its orthogonalized momentum, multiplied by ``lr * matrix_lr * sqrt(max(1, outputs /
    inputs))``. Rare directions, such as features of small lesions, therefore get updates as large as common ones.
    torch.optim.Muon and timm's Muon compute in bfloat16, which takes twelve times as long on a CPU; this class uses the
    precision of the weights.

    Args:
        params: parameter groups; groups of matrices have ``matrix=True``. MuonConstructor creates these groups.
        lr: learning rate of AdamW.
        betas: coefficients of AdamW.
        eps: epsilon of AdamW.
        weight_decay: decoupled weight decay of all parameters.
        momentum: Nesterov momentum of matrices.
        matrix_lr: ratio of the learning rate of matrices to ``lr``.

    Raises:
        ConfigError: no group has ``matrix=True``.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        matrix_lr: float = 10.0,
    ) -> None:
        params = list(params)
        if not any(isinstance(group, dict) and group.get("matrix") for group in params):
            raise ConfigError(
                "MuonAdamW: no parameter group has matrix=True. Set optim_wrapper.constructor='MuonConstructor'"
            )
        # AdamW of a dummy parameter; step() replaces its groups, which must have all settings of AdamW.
        self._adamw = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr, betas, eps, weight_decay, fused=True)
        defaults = {**self._adamw.defaults, "momentum": momentum, "matrix_lr": matrix_lr, "matrix": False}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # overloads
        """Perform one optimization step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # AdamW uses the state and groups of this optimizer, so that schedulers and checkpoints handle one optimizer.
        self._adamw.state = self.state
        self._adamw.param_groups = _merged(group for group in self.param_groups if not group["matrix"])
        self._adamw.step()
        for group in _merged(group for group in self.param_groups if group["matrix"]):
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault((*parameter.shape, parameter.device, parameter.dtype), []).append(parameter)
            for parameters in by_shape.values():
                self._step_matrices(parameters, group)
        return loss

    def _step_matrices(self, weights: list[Tensor], group: dict) -> None:
        """Update matrices of one shape (O, I) in one sequence of batched operations."""
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
        gradients: Any = [weight.grad for weight in weights]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        steps_XOI = orthogonalize(torch.stack(torch._foreach_add(gradients, buffers, alpha=group["momentum"])))
        outputs, inputs = weights[0].shape
        step_size = group["lr"] * group["matrix_lr"] * max(1.0, outputs / inputs) ** 0.5
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, list(steps_XOI), alpha=-step_size)


def _merged(groups: Iterable[dict]) -> list[dict]:
    """Groups of equal settings as one group, for fewer and larger operations."""
    merged: list[dict] = []
    for group in groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        same = next((one for one in merged if {**one, "params": None} == {**settings, "params": None}), None)
        if same is None:
            merged.append({**settings, "params": list(group["params"])})
        else:
            same["params"] += group["params"]
    return merged


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MuonConstructor(DefaultOptimWrapperConstructor):
    """mmengine's default constructor, whose parameter groups have the additional key ``matrix``.

    Each group contains one parameter. ``matrix`` is True for 2D weights of modules such as linear layers, except
    embeddings and weights with a side of less than 16. ``paramwise_cfg`` works as in mmengine.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # Without a paramwise_cfg, mmengine does not create groups.
        super().__init__(optim_wrapper_cfg, paramwise_cfg or {"custom_keys": {}})

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = "", is_dcn_module: int | float | None = None
    ) -> None:
        """Add the groups of a module."""
        super().add_params(params, module, prefix, is_dcn_module)
        if not prefix:
            matrices = {id(part.weight) for part in module.modules() if _has_matrix(part)}
            for group in params:
                group["matrix"] = all(id(parameter) in matrices for parameter in group["params"])


def _has_matrix(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return (
        isinstance(weight, nn.Parameter)
        and not isinstance(module, nn.Embedding)
        and weight.ndim == 2
        and min(weight.shape) >= MIN_SIDE
    )
