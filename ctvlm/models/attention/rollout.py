"""Attention rollout: how much each patch at the input feeds what is read out at the end (Abnar & Zuidema, 2020)."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn

from ctvlm.models.attention.base import SelfAttention
from ctvlm.structures import TokenContext


class AttentionRecorder:
    """Notes what each self-attention layer reads during a forward pass, so that attention can be followed back.

    ::

        with AttentionRecorder(model.backbone) as recorder:
            encoded = model.encode(inputs)
        share_BN = recorder.rollout(readout_BN)

    It works from outside, through hooks: a model that is not recorded runs as ever. Kept are the layers' inputs
    (L, B, N, E), not their attention.

    Raises:
        ValueError: on leaving, where no self-attention ran that can be followed.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._calls: list[tuple[SelfAttention, Tensor, TokenContext]] = []
        self._hooks: list = []

    def __enter__(self) -> AttentionRecorder:
        self._calls.clear()
        layers = [layer for layer in self.module.modules() if isinstance(layer, SelfAttention)]
        self._hooks = [layer.register_forward_pre_hook(self._note) for layer in layers]
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        if kind is None and not self._calls:
            raise ValueError(
                f"{type(self.module).__name__} ran no self-attention over patches, so there is none to roll out; "
                "expected layers that are a ctvlm.models.attention.SelfAttention"
            )

    def _note(self, layer: SelfAttention, args: tuple[Tensor, TokenContext]) -> None:
        x_BNE, ctx = args
        self._calls.append((layer, x_BNE.detach(), ctx))

    def rollout(self, readout_BN: Tensor, residual: float = 0.5) -> Tensor:
        """Follow weights over the last layer's patches back to the input: readout times the product of all layers.

        Each layer counts as ``(1 - residual) * (its attention, mean over heads) + residual * identity``; attention to
        regions, which are whole organs, is not followed. Only the product's one row is ever kept, so memory
        grows with N, not with its square.

        Args:
            readout_BN: on the full patch grid; what patches that are no tokens have is dropped.

        Returns:
            (B, N) on the full patch grid; each row sums to what its tokens had.
        """
        ctx = self._calls[-1][2]
        share_Bn = ctx.gather(readout_BN[..., None])[..., 0]
        if ctx.token_mask_BN is not None:
            share_Bn = share_Bn * ctx.token_mask_BN
        for layer, x_BNE, layer_ctx in reversed(self._calls):
            share_Bn = (1 - residual) * received(layer, x_BNE, layer_ctx, share_Bn) + residual * share_Bn
        return ctx.scatter(share_Bn[..., None])[..., 0]


def received(layer: SelfAttention, x_BNE: Tensor, ctx: TokenContext, share_BN: Tensor) -> Tensor:
    """``share`` times the layer's attention matrix, mean over heads (B, N): what each token gets of what others attend.

    Attention is linear in its values, so a row times its matrix is a gradient by the values: every layer that can be
    trained can be followed, its fused kernel, slice bias and masks included, and no N x N matrix is made.
    """
    with torch.no_grad():
        q_BKNc, k_BKNc, v_BKNc = layer.heads(x_BNE, ctx)
    with torch.enable_grad():
        v_BKNc = torch.zeros_like(v_BKNc).requires_grad_()
        out_BKN = layer.attend(q_BKNc, k_BKNc, v_BKNc, ctx)[..., 0]
        (got_BKNc,) = torch.autograd.grad(out_BKN, v_BKNc, share_BN[:, None].expand_as(out_BKN).to(out_BKN))
    return got_BKNc[..., 0].mean(dim=1).to(share_BN)
