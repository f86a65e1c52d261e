"""LoRA adapters (Hu et al., ICLR 2022) of a transformers model."""

from __future__ import annotations

from typing import Any

from torch import nn

from ctvlm.utils.errors import CTVLMError


def add_lora(model: nn.Module, options: dict[str, Any]) -> nn.Module:
    """The model with LoRA adapters; only they require a gradient.

    Args:
        options: arguments of ``peft.LoraConfig``.

    Raises:
        CTVLMError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model  # slow to import, and optional
    except ImportError as error:
        raise CTVLMError("train='lora' needs peft: pip install 'ctvlm[lora]'") from error
    return get_peft_model(model, LoraConfig(**options))
