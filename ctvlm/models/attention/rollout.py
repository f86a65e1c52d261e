"""Attention rollout: contribution of each input patch to the output (Abnar & Zuidema, 2020)."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn

from ctvlm.models.attention.base import SelfAttention
from ctvlm.structures import TokenContext


class AttentionRecorder:
    """Record the inputs of each self-attention layer during a forward pass, for attention rollout.

    ::

        with AttentionRecorder(model.backbone) as recorder:
            encoded = model.encode(inputs)
        share_BN = recorder.rollout(readout_BN)

    It uses forward hooks. It stores the layers' inputs (L, B, N, E), not their attention.

    Raises:
        ValueError: on exit, if no SelfAttention ran.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._calls: list[tuple[SelfAttention, Tensor, TokenContext]] = []
        self._hooks: list = []

    def __enter__(self) -> AttentionRecorder:
        self._calls.clear()
        layers = [layer for layer in self.module.modules() if isinstance(layer, SelfAttention)]
        self._hooks = [layer.register_forward_pre_hook(self._record) for layer in layers]
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        if kind is None and not self._calls:
            raise ValueError(
                f"{type(self.module).__name__} ran no self-attention over patches; rollout needs layers of class "
                "ctvlm.models.attention.SelfAttention"
            )

    def _record(self, layer: SelfAttention, args: tuple[Tensor, TokenContext]) -> None:
        x_BNE, ctx = args
        self._calls.append((layer, x_BNE.detach(), ctx))

    def rollout(self, readout_BN: Tensor, residual: float = 0.5) -> Tensor:
        """Propagate weights of the last layer's patches back to the input: readout times the product of all layers.

        Each layer is ``(1 - residual) * (its attention, mean over heads) + residual * identity``. Attention to
        regions is left out. Only one row of the product is stored, so memory is linear in N.

        Args:
            readout_BN: on the full patch grid; weights of patches that are not tokens are dropped.

        Returns:
            (B, N) on the full patch grid; each row has the sum of the weights of its tokens.
        """
        ctx = self._calls[-1][2]
        share_Bn = ctx.gather(readout_BN[..., None])[..., 0]
        if ctx.token_mask_BN is not None:
            share_Bn = share_Bn * ctx.token_mask_BN
        for layer, x_BNE, layer_ctx in reversed(self._calls):
            share_Bn = (1 - residual) * received(layer, x_BNE, layer_ctx, share_Bn) + residual * share_Bn
        return ctx.scatter(share_Bn[..., None])[..., 0]


def received(layer: SelfAttention, x_BNE: Tensor, ctx: TokenContext, share_BN: Tensor) -> Tensor:
    """``share`` times the layer's attention matrix, mean over heads (B, N).

    Attention is linear in its values, so this product is a gradient with respect to the values. It works for every
    differentiable layer, with its fused kernel, slice bias and masks, and without an N x N matrix.
    """
    with torch.no_grad():
        q_BKNc, k_BKNc, v_BKNc = layer.heads(x_BNE, ctx)
    with torch.enable_grad():
        v_BKNc = torch.zeros_like(v_BKNc).requires_grad_()
        out_BKN = layer.attend(q_BKNc, k_BKNc, v_BKNc, ctx)[..., 0]
        (gradient_BKNc,) = torch.autograd.grad(out_BKN, v_BKNc, share_BN[:, None].expand_as(out_BKN).to(out_BKN))
    return gradient_BKNc[..., 0].mean(dim=1).to(share_BN)
