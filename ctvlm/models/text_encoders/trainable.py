"""Selection of the parameters of a pretrained text encoder that are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ctvlm.utils.lora import add_lora

# transformers takes seconds to import: functions import it.
if TYPE_CHECKING:
    from transformers import PreTrainedModel

MODES = ("frozen", "top", "lora", "full")
# Adapters for every linear layer, the best choice of Dettmers et al. (QLoRA, NeurIPS 2023) at equal parameter number.
LORA: dict[str, Any] = dict(r=8, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear")


def choose_trained(
    model: PreTrainedModel, projection: nn.Module, mode: str, top_layers: int, lora: dict[str, Any] | None
) -> tuple[nn.Module, list[nn.Module]]:
    """Enable gradients for the parameters that ``mode`` trains, and disable them for all others.

    Returns:
        The model, with adapters for ``mode='lora'``, and the modules that are in training mode during training.
    """
    model.requires_grad_(mode == "full")
    projection.requires_grad_(mode in ("top", "full"))
    if mode == "lora":
        adapted = add_lora(model, {**LORA, **(lora or {})})
        return adapted, [adapted]
    if mode == "full":
        return model, [model, projection]
    if mode == "frozen":
        return model, []
    top = top_modules(model, top_layers)
    for module in top:
        module.requires_grad_(True)
    return model, [*top, projection]


def top_modules(model: PreTrainedModel, count: int) -> list[nn.Module]:
    """The last ``count`` layers of an encoder, and the modules after them (a last norm).

    Raises:
        ValueError: the list of layers is not found, or has fewer layers.
    """
    depth = model.config.num_hidden_layers
    for parent in model.modules():
        children = list(parent.children())
        for i, child in enumerate(children):
            if isinstance(child, nn.ModuleList) and len(child) == depth:
                if not 0 < count <= depth:
                    raise ValueError(f"text_encoder.top_layers={count}: expected 1 to {depth}, the encoder's layers")
                return [*child[depth - count :], *children[i + 1 :]]
    raise ValueError(
        f"text_encoder.train='top': {type(model).__name__} has no list of {depth} layers (layers may share weights); "
        "use train='lora', 'full' or 'frozen'"
    )
