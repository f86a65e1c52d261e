"""The slice bias as a FlexAttention score function."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ctvlm.models.attention.augmented_sdpa import MASKED_SCORE
from ctvlm.structures import TokenContext


@lru_cache(maxsize=1)
def _kernel(device_type: str) -> Any:
    try:
        from torch.nn.attention.flex_attention import flex_attention
    except ImportError as error:
        raise ValueError("backend='flex' needs a torch with FlexAttention (2.6 or newer); use 'sdpa'") from error
    # On CPU the eager form is correct, and uses as much memory as the dense one.
    return torch.compile(flex_attention, dynamic=False) if device_type == "cuda" else flex_attention


def flex_slice_attention(
    q_BKNc: Tensor, k_BKNc: Tensor, v_BKNc: Tensor, bias_BKdd: Tensor, ctx: TokenContext
) -> Tensor:
    """FlexAttention with the slice bias: fused on CUDA, eager and without gradients on the CPU.

    Raises:
        ValueError: gradients are needed on the CPU, or torch has no FlexAttention.
    """
    if q_BKNc.device.type == "cpu" and torch.is_grad_enabled() and q_BKNc.requires_grad:
        raise ValueError(
            "SliceAwareAttention(backend='flex') cannot train on the CPU, where FlexAttention has no backward pass; "
            "use backend='sdpa', which gives the same numbers"
        )
    z_BN = ctx.z_BN
    bias_BKdd = bias_BKdd.expand(z_BN.shape[0], -1, -1, -1).contiguous()
    mask_BN = ctx.token_mask_BN
    if mask_BN is not None:
        # If all keys of a case are masked, they have weights; zero values make the output 0.
        v_BKNc = v_BKNc.masked_fill(~mask_BN[:, None, :, None], 0.0)

    def score(value: Tensor, b: Tensor, k: Tensor, i: Tensor, j: Tensor) -> Tensor:
        value = value + bias_BKdd[b, k, z_BN[b, i], z_BN[b, j]]
        return value if mask_BN is None else torch.where(mask_BN[b, j], value, MASKED_SCORE)

    return _kernel(q_BKNc.device.type)(q_BKNc, k_BKNc, v_BKNc, score_mod=score)
