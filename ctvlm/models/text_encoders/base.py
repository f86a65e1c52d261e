"""Base class of text encoders: long texts, padding, pooling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctvlm.models.text_encoders.passes import divide, pass_cost
from ctvlm.models.text_encoders.sections import split_tokens


class BaseTextEncoder(nn.Module, ABC):
    """Texts to embeddings (len(texts), ``embed_dims``).

    A text longer than the model's limit is split into sections, between sentences if possible. Sections are encoded
    separately and averaged, weighted by their length, so no text is truncated. Sections of similar length are encoded
    in one pass, see ``divide``.

    Args:
        max_length: maximum number of tokens of a section, including special tokens.
        bucket_size: maximum number of sections of a pass.
    """

    embed_dims: int

    def __init__(self, max_length: int, bucket_size: int = 32):
        super().__init__()
        self.max_length = max_length
        self.bucket_size = bucket_size

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens and without a limit."""

    def encode_tokens(self, tokens: list[list[int]]) -> Tensor:
        """Embeddings (len(tokens), E) of token lists of similar length within the limit, in one pass."""
        raise NotImplementedError

    def encode_sorted(self, tokens: list[list[int]]) -> Tensor:
        """Embeddings (len(tokens), E) of token lists within the limit, sorted by length."""
        lengths = [len(ids) + self.num_special_tokens for ids in tokens]
        passes = divide(lengths, self.bucket_size, pass_cost(next(self.parameters()).device.type))
        return torch.cat([self.encode_tokens(tokens[part]) for part in passes])

    @property
    @abstractmethod
    def num_special_tokens(self) -> int:
        """Number of tokens that the model adds to each section."""

    def sections(self, text: str, tokens: list[int], room: int) -> list[list[int]]:
        """The token lists of a text that are encoded, each of at most ``room`` tokens."""
        return split_tokens(text, tokens, room, self.tokenize)

    def forward(self, texts: Sequence[str]) -> Tensor:
        room = self.max_length - self.num_special_tokens
        sections: list[list[int]] = []
        owners: list[int] = []
        for owner, tokens in enumerate(self.tokenize(texts)):
            parts = self.sections(texts[owner], tokens, room)
            sections += parts
            owners += [owner] * len(parts)

        order = sorted(range(len(sections)), key=lambda i: len(sections[i]))
        features_SE = self.encode_sorted([sections[i] for i in order])
        columns_2S = torch.tensor([[owners[i] for i in order], [max(len(sections[i]), 1) for i in order]])
        owner_S, weight_S = columns_2S.to(features_SE.device, non_blocking=True)
        weight_S = weight_S.to(features_SE.dtype)
        pooled = features_SE.new_zeros(len(texts), features_SE.shape[1])
        pooled = pooled.index_add(0, owner_S, features_SE * weight_S[:, None])
        total = weight_S.new_zeros(len(texts)).index_add(0, owner_S, weight_S)
        return pooled / total[:, None]
