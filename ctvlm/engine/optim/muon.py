"""The Muon optimizer for weight matrices, combined with AdamW for other parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import Tensor, nn

from ctvlm.engine.cli.config import ConfigError
from ctvlm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS

# Coefficients of the quintic iteration that drives singular values towards 1 (Jordan et al., 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
# Smaller matrices are scores or queries, which are vectors with an additional axis.
MIN_SIDE = 16


def orthogonalize(matrix_IO: Tensor, steps: int = 5) -> Tensor:
    """Set the singular values of a matrix to about 1 by Newton-Schulz iteration; the singular vectors stay the same.

    Singular values of at least 1% of the matrix norm end between 0.6 and 1.2; smaller ones end below. A zero matrix
    stays zero.
    """
    a, b, c = QUINTIC
    wide = matrix_IO.shape[0] <= matrix_IO.shape[1]
    x_IO = matrix_IO if wide else matrix_IO.T
    x_IO = x_IO / x_IO.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram_II = x_IO @ x_IO.T
        x_IO = torch.addmm(x_IO, torch.addmm(gram_II, gram_II, gram_II, beta=b, alpha=c), x_IO, beta=a)
    return x_IO if wide else x_IO.T


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
        self._adamw = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr, betas, eps, weight_decay)
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
        self._adamw.param_groups = [group for group in self.param_groups if not group["matrix"]]
        self._adamw.step()
        for group in self.param_groups:
            if group["matrix"]:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._step_matrix(parameter, group)
        return loss

    def _step_matrix(self, weight_OI: Tensor, group: dict) -> None:
        state = self.state[weight_OI]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight_OI)
        momentum_OI = state["momentum_buffer"].mul_(group["momentum"]).add_(weight_OI.grad)
        step_OI = orthogonalize(weight_OI.grad + group["momentum"] * momentum_OI)
        outputs, inputs = weight_OI.shape
        step_size = group["lr"] * group["matrix_lr"] * max(1.0, outputs / inputs) ** 0.5
        weight_OI.mul_(1 - group["lr"] * group["weight_decay"]).add_(step_OI, alpha=-step_size)


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
