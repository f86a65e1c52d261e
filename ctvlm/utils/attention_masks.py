"""Attention masks of transformers models, made without a wait for the device.

A transformers model reads a two-dimensional mask to find out whether it masks anything, for which a GPU has to finish
all earlier work. It uses a four-dimensional mask as it is.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

# Model types that use the mask for attention only, so that it can have four dimensions.
BIDIRECTIONAL = frozenset({"bert", "distilbert", "electra", "roberta", "t5", "xlm-roberta"})
CAUSAL = frozenset({"gpt2", "llama"})
# Attention implementations that take a mask of bool or of summands.
_IMPLEMENTATIONS = ("sdpa", "eager")


def padding_mask(model: Any, mask_ST: Tensor, device: torch.device) -> Tensor | None:
    """Argument ``attention_mask`` of an encoder or causal model for a mask (S, T) on the host, False for padding.

    Models of other types than those above, and models with code of their own, get the mask (S, T).
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if is_causal(base):
        mask = causal_mask(base, mask_ST)
    elif _is_known(base, BIDIRECTIONAL) and not getattr(base.config, "is_decoder", False):
        if bool(mask_ST.all()):
            return None  # without a mask, faster kernels are used
        mask = _as_used(base, mask_ST[:, None, None].expand(-1, 1, mask_ST.shape[1], -1))
    else:
        mask = mask_ST.long()
    return mask.to(device, non_blocking=True)


def is_causal(model: Any) -> bool:
    """Whether ``causal_mask`` suits the model."""
    return _is_known(model, CAUSAL)


def causal_mask(model: Any, mask_ST: Tensor) -> Tensor:
    """Argument ``attention_mask`` of a causal model for a mask (S, T), on its device.

    Never None: without a mask, the model would read its token ids. The first token must not be masked.
    """
    length = mask_ST.shape[1]
    before_TT = torch.ones(length, length, dtype=torch.bool, device=mask_ST.device).tril()
    return _as_used(model, before_TT & mask_ST[:, None, None].bool())


def cross_attention_mask(model: Any, num_queries: int, mask_SM: Tensor) -> Tensor:
    """Argument ``encoder_attention_mask`` of a GPT-2 for a mask (S, M), on its device."""
    if not hasattr(sys.modules[type(model).__module__], "create_bidirectional_mask"):
        return mask_SM.long()  # transformers 5.0 takes no other
    return _as_used(model, mask_SM[:, None, None].bool().expand(-1, 1, num_queries, -1))


def _is_known(model: Any, kinds: frozenset[str]) -> bool:
    published = type(model).__module__.startswith("transformers.") and model.config.model_type in kinds
    return published and model.config._attn_implementation in _IMPLEMENTATIONS


def _as_used(model: Any, allowed_S1QT: Tensor) -> Tensor:
    if model.config._attn_implementation == "sdpa":
        return allowed_S1QT
    zero = torch.zeros((), dtype=model.dtype, device=allowed_S1QT.device)
    return zero.where(allowed_S1QT, torch.finfo(model.dtype).min)
