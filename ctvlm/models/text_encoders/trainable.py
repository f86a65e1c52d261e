"""Which part of a pretrained encoder is trained."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from ctvlm.utils import CTVLMError

MODES = ("frozen", "top", "lora", "full")
# Every linear layer, as Dettmers et al. (QLoRA, NeurIPS 2023) found best at a given number of parameters.
_LORA = dict(r=8, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear")


def choose_trained(
    model: PreTrainedModel, projection: nn.Module, mode: str, top_layers: int, lora: dict[str, Any] | None
) -> tuple[nn.Module, list[nn.Module]]:
    """Let only what ``mode`` trains ask for gradients.

    Returns the model, wrapped for LoRA, and the modules that behave as in training (dropout).
    """
    model.requires_grad_(mode == "full")
    projection.requires_grad_(mode in ("top", "full"))
    if mode == "lora":
        model = add_lora(model, lora)
        return model, [model]
    if mode == "full":
        return model, [model, projection]
    if mode == "frozen":
        return model, []
    top = top_modules(model, top_layers)
    for module in top:
        module.requires_grad_(True)
    return model, [*top, projection]


def top_modules(model: PreTrainedModel, count: int) -> list[nn.Module]:
    """The last ``count`` layers of an encoder, and what it applies after them (a last norm).

    Raises:
        ValueError: its layers cannot be found, or are fewer.
    """
    depth = model.config.num_hidden_layers
    for parent in model.modules():
        children = list(parent.children())
        for place, child in enumerate(children):
            if isinstance(child, nn.ModuleList) and len(child) == depth:
                if not 0 < count <= depth:
                    raise ValueError(f"text_encoder.top_layers={count}: the encoder has {depth} layers")
                return [*child[depth - count :], *children[place + 1 :]]
    raise ValueError(
        f"train='top': {type(model).__name__} has no list of {depth} layers (some share one set of weights): "
        "use train='lora', 'full' or 'frozen'"
    )


def add_lora(model: PreTrainedModel, options: dict[str, Any] | None) -> nn.Module:
    """The encoder with LoRA adapters (Hu et al., ICLR 2022), the only parameters that still ask for a gradient.

    Args:
        options: of ``peft.LoraConfig``, over our defaults.

    Raises:
        CTVLMError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise CTVLMError("text_encoder.train='lora' needs peft: pip install 'ctvlm[lora]'") from error
    return get_peft_model(model, LoraConfig(**{**_LORA, **(options or {})}))
