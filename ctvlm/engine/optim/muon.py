"""Muon: steps of equal size in all directions of a weight matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import Tensor, nn

from ctvlm.engine.cli.config import ConfigError
from ctvlm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS

# Of the quintic iteration that drives singular values to about 1 (Jordan et al., 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
# Thinner ones are scores and queries: vectors that happen to have two axes.
LEAST_SIDE = 16


def orthogonalize(matrix_IO: Tensor, steps: int = 5) -> Tensor:
    """The same singular vectors with values about 1, by Newton-Schulz iteration.

    Values from a hundredth of the matrix's norm on end between 0.6 and 1.2, smaller ones below; a zero matrix stays.
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
    """Muon (Jordan et al., 2024) for weight matrices, AdamW for everything else.

    A matrix steps along its orthogonalised momentum, with ``matrix_lr`` times the learning rate and times
    sqrt(outputs / inputs) where it widens. Rare directions, such as what tells one small lesion from another, get
    steps as large as those that all cases share. torch.optim.Muon and timm's do the same in bfloat16 only, which took
    twelve times as long on a CPU; here it is the weights' own precision.

    Args:
        params: groups, those of matrices marked by ``matrix=True``: what MuonConstructor makes of a model.
        lr, betas, eps, weight_decay: of AdamW; the decay holds for matrices too.
        momentum: of matrices, Nesterov's.
        matrix_lr: learning rate of matrices by that of the rest.

    Raises:
        ConfigError: no group is marked.
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
                "MuonAdamW was told of no weight matrix: expected optim_wrapper.constructor='MuonConstructor'"
            )
        # What AdamW is asked to step later must have all of its settings.
        self._adamw = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr, betas, eps, weight_decay)
        defaults = {**self._adamw.defaults, "momentum": momentum, "matrix_lr": matrix_lr, "matrix": False}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # State and groups are this optimizer's, so that schedulers, saving and resuming know of one only.
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
        mean_OI = state["momentum_buffer"].mul_(group["momentum"]).add_(weight_OI.grad)
        step_OI = orthogonalize(weight_OI.grad + group["momentum"] * mean_OI)
        outputs, inputs = weight_OI.shape
        size = group["lr"] * group["matrix_lr"] * max(1.0, outputs / inputs) ** 0.5
        weight_OI.mul_(1 - group["lr"] * group["weight_decay"]).add_(step_OI, alpha=-size)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MuonConstructor(DefaultOptimWrapperConstructor):
    """mmengine's parameter groups, each saying whether its parameter is a weight ``matrix``.

    Matrices are the weights of linear layers and of what maps as they do; not embeddings, tables of names or
    positions, or scores of less than 16 outputs. One group holds one parameter, with the ``paramwise_cfg`` as usual.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # mmengine makes no groups where nothing is asked of them.
        super().__init__(optim_wrapper_cfg, paramwise_cfg or {"custom_keys": {}})

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = "", is_dcn_module: int | float | None = None
    ) -> None:
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
        and min(weight.shape) >= LEAST_SIDE
    )
