"""The slice bias as a FlexAttention score function."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ctvlm.models.attention.augmented_sdpa import MASKED_SCORE
from ctvlm.structures import TokenContext


@lru_cache(maxsize=1)
def _kernel(device_type: str):
    try:
        from torch.nn.attention.flex_attention import flex_attention
    except ImportError as error:
        raise ValueError("backend='flex' needs a torch with FlexAttention (2.6 or newer); use 'sdpa'") from error
    # On CPU the eager form is right, and as large as the dense one.
    return torch.compile(flex_attention, dynamic=False) if device_type == "cuda" else flex_attention


def flex_slice_attention(
    q_BKNc: Tensor, k_BKNc: Tensor, v_BKNc: Tensor, bias_BKdd: Tensor, ctx: TokenContext
) -> Tensor:
    """Fused on CUDA; on the CPU the eager form without gradients, which is all that torch offers there.

    Raises:
        ValueError: gradients on the CPU, or a torch without FlexAttention.
    """
    if q_BKNc.device.type == "cpu" and torch.is_grad_enabled() and q_BKNc.requires_grad:
        raise ValueError(
            "SliceAwareAttention(backend='flex') cannot train on the CPU: FlexAttention has no backward pass there; "
            "use backend='sdpa', which gives the same numbers"
        )
    z_BN = ctx.z_BN
    bias_BKdd = bias_BKdd.expand(len(z_BN), -1, -1, -1).contiguous()
    mask_BN = ctx.token_mask_BN
    if mask_BN is not None:
        # A case whose keys are all masked has weights on them: without values its output is 0.
        v_BKNc = v_BKNc.masked_fill(~mask_BN[:, None, :, None], 0.0)

    def score(value: Tensor, b: Tensor, k: Tensor, i: Tensor, j: Tensor) -> Tensor:
        value = value + bias_BKdd[b, k, z_BN[b, i], z_BN[b, j]]
        return value if mask_BN is None else torch.where(mask_BN[b, j], value, MASKED_SCORE)

    return _kernel(q_BKNc.device.type)(q_BKNc, k_BKNc, v_BKNc, score_mod=score)
