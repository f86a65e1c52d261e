"""The text encoder of a published image-text model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from torch import Tensor

from ctvlm.models.text_encoders.checkpoint_formats import Source, read_architecture
from ctvlm.models.text_encoders.hf import HFTextEncoder
from ctvlm.models.text_encoders.tower import Tower, build_projection
from ctvlm.registry import TEXT_ENCODERS
from ctvlm.utils.published_weights import load_exactly, read_published, weights_below

# Weights that older versions of transformers wrote, and those of poolers, which are not built.
UNUSED_ENDS = ("embeddings.position_ids", "embeddings.token_type_ids")
POOLER = "pooler."


@dataclass(frozen=True)
class PublishedParts:
    """Where the weights are in the file; see PublishedTextEncoder."""

    weights: str | None
    prefix: str
    head_prefix: str
    out_dims: int | None
    bias: bool
    num_heads: int


@TEXT_ENCODERS.register_module()
class PublishedTextEncoder(HFTextEncoder):
    """The text encoder in the file of a published image-text model, with its projection to the shared space.

    The network is one of transformers; its config and tokenizer come from another folder or hub id. Texts beyond
    ``max_length`` are truncated, as published code does, not split into sections. The state dict contains config,
    tokenizer and weights. A model that is built from its own checkpoint does not read these files again.

    Args:
        pretrained: folder or hub id with ``config.json`` and the tokenizer files; weights in it are not read.
        weights: file of the published model; ``None``: random weights, with a warning.
        prefix: start of the names of the text encoder in that file.
        head_prefix: start of the names of the projection.
        out_dims: width of the projection, a linear layer after pooling; ``None``: no projection.
        bias: whether the projection has a bias.
        pooling: as in HFTextEncoder, or ``attention``: AttentionPool, whose weights are those of the projection.
        num_heads: of AttentionPool.
        train, max_length, tokenizer, revision: as in HFTextEncoder.

    Raises:
        CheckpointError: the file cannot be read, or its weights do not match.
        CTVLMError: config or tokenizer cannot be read, or peft is missing.
        ValueError: an option is invalid for the encoder.
    """

    poolings = (*HFTextEncoder.poolings, "attention")

    def __init__(
        self,
        pretrained: str,
        weights: str | None = None,
        prefix: str = "",
        head_prefix: str = "",
        out_dims: int | None = None,
        bias: bool = False,
        pooling: str = "cls",
        num_heads: int = 12,
        train: str = "frozen",
        max_length: int | None = None,
        tokenizer: dict[str, Any] | None = None,
        revision: str | None = None,
    ) -> None:
        if pooling == "attention" and out_dims is not None:
            raise ValueError(f"text_encoder.out_dims={out_dims}: expected None with pooling='attention'")
        # The base class reads the encoder with ``_read`` before it sets up its modules.
        self._parts = PublishedParts(weights, prefix, head_prefix, out_dims, bias, num_heads)
        options: dict[str, Any] = dict(max_length=max_length, tokenizer=tokenizer, revision=revision)
        super().__init__(pretrained, train=train, pooling=pooling, **options)

    def sections(self, text: str, tokens: list[int], room: int) -> list[list[int]]:
        return [tokens[:room]]

    def embed_hidden(self, hidden_STE: Tensor, mask_ST: Tensor) -> Tensor:
        if self.pooling != "attention":
            return super().embed_hidden(hidden_STE, mask_ST)
        (attention_pool,) = self.projection.children()
        return attention_pool(hidden_STE, mask_ST)

    def _read(self, source: Source, pooling: str, projection: bool) -> Tower:
        tower, parts = read_architecture(source), self._parts
        width = tower.model.config.hidden_size
        if pooling == "attention":
            tower.shapes = [["attention", width, parts.num_heads]]
        elif parts.out_dims is not None:
            tower.shapes = [["linear", width, parts.out_dims, parts.bias]]
        tower.projection = build_projection(tower.shapes)
        if parts.weights is None:
            print_log("text_encoder.weights is not set: the text encoder has random weights", "current", level=30)
            tower.report = f"{source.name}: random weights"
        else:
            tower.report = f"{source.name}: {load_published(tower, parts)} weights loaded from {parts.weights}"
        return tower


def load_published(tower: Tower, parts: PublishedParts) -> int:
    """Load encoder and projection; returns the number of weights.

    Raises:
        CheckpointError: the file cannot be read, or its weights do not match.
    """
    path = str(parts.weights)
    everything = read_published(path)
    option = f"text_encoder.prefix ({parts.prefix!r})"
    below = weights_below(everything, parts.prefix, path, "text_encoder.prefix")
    name, sizes = type(tower.model).__name__, "text_encoder.pretrained (config.json)"
    count = load_exactly(tower.model, _used(below, tower), path, f"a model with a {name}", sizes, option)
    if tower.shapes:
        option = f"text_encoder.head_prefix ({parts.head_prefix!r})"
        head = weights_below(everything, parts.head_prefix, path, "text_encoder.head_prefix")
        head = {f"0.{key}": value for key, value in head.items()}  # the only layer of the projection
        count += load_exactly(
            tower.projection, head, path, "a model with a projection", "text_encoder.out_dims", option
        )
    return count


def _used(weights: dict[str, Tensor], tower: Tower) -> dict[str, Tensor]:
    own = tower.model.state_dict()
    return {
        key: value
        for key, value in weights.items()
        if key in own or not (key.endswith(UNUSED_ENDS) or key.startswith(POOLER))
    }
