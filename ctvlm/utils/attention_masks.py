"""Attention masks of transformers models, made without a wait for the device.

A transformers model reads a two-dimensional mask to find out whether it masks anything, for which a GPU has to finish
all earlier work. It uses a four-dimensional mask as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

# Model types that use the mask for attention only, so that it can have four dimensions.
BIDIRECTIONAL = frozenset({"bert", "distilbert", "electra", "roberta", "t5", "xlm-roberta"})
CAUSAL = frozenset({"gpt2", "llama"})


def padding_mask(model: Any, mask_ST: Tensor, device: torch.device) -> Tensor | None:
    """Argument ``attention_mask`` of an encoder or causal model for a mask (S, T) on the host, False for padding.

    Other model types than those above, and models with code of their own, get the mask (S, T).
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    kind = base.config.model_type if type(base).__module__.startswith("transformers.") else None
    made: Tensor | None = mask_ST.long()
    if kind in BIDIRECTIONAL and not getattr(base.config, "is_decoder", False):
        made = create_bidirectional_mask(base.config, _shape_of(mask_ST, base.dtype), mask_ST)
    elif kind in CAUSAL:
        made = causal_mask(base, mask_ST)
    return None if made is None else made.to(device, non_blocking=True)


def causal_mask(model: Any, mask_ST: Tensor) -> Tensor:
    """Argument ``attention_mask`` of a causal model of a type in ``CAUSAL``, on the device of the mask (S, T)."""
    shape = _shape_of(mask_ST, model.dtype)
    # Never left out: without a mask, the model would read the ids of the tokens.
    return create_causal_mask(model.config, shape, mask_ST, cache=None, allow_is_causal_skip=False)


def cross_attention_mask(model: Any, num_queries: int, mask_SM: Tensor) -> Tensor:
    """Argument ``encoder_attention_mask`` of a decoder for a mask (S, M), on the device of the mask."""
    queries = _shape_of(mask_SM[:, :1].expand(-1, num_queries), model.dtype)
    memory = _shape_of(mask_SM, model.dtype)
    return create_bidirectional_mask(model.config, queries, mask_SM, memory, allow_is_bidirectional_skip=False)


def _shape_of(mask_ST: Tensor, dtype: torch.dtype) -> Tensor:
    """In place of embeddings, of which only shape, dtype and device are used."""
    return torch.empty(*mask_ST.shape, 0, dtype=dtype, device=mask_ST.device)
