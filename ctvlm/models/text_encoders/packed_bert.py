"""BERT on packed texts: without padding, except in attention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ctvlm.models.text_encoders.passes import divide


class AttentionPass(NamedTuple):
    """Consecutive texts whose attention is computed together.

    Attributes:
        tokens: their tokens, a slice of T.
        shape: number of texts S and of tokens L of the longest.
        kept_K: positions of the tokens in (S L); None if all texts have L tokens.
        mask_S11L: True for tokens; None if all texts have L tokens.
    """

    tokens: slice
    shape: tuple[int, int]
    kept_K: Tensor | None
    mask_S11L: Tensor | None


def attention_passes(
    lengths: Sequence[int], largest_pass: int, pass_cost: int, device: torch.device
) -> list[AttentionPass]:
    """Passes over texts sorted by length, see ``divide``."""
    ends = [0, *accumulate(lengths)]
    passes = []
    for part in divide(lengths, largest_pass, pass_cost):
        own = lengths[part]
        shape, kept_K, mask_S11L = (len(own), max(own)), None, None
        if own[0] < own[-1]:
            mask_SL = torch.arange(shape[1]) < torch.tensor(own)[:, None]
            kept_K = mask_SL.flatten().nonzero()[:, 0].to(device, non_blocking=True)
            mask_S11L = mask_SL[:, None, None].to(device, non_blocking=True)
        passes.append(AttentionPass(slice(ends[part.start], ends[part.stop]), shape, kept_K, mask_S11L))
    return passes


class PackedBert(nn.Module):
    """The encoder of BERT (Devlin et al., 2019), with the weight names and initial weights of transformers' BertModel.

    Layers that process single tokens read the tokens of all texts at once: (T, E). Only attention pads texts.
    """

    def __init__(
        self, vocab_size: int, embed_dims: int, depth: int, num_heads: int, max_length: int, dropout: float, pad_id: int
    ) -> None:
        super().__init__()
        self.embeddings = BertEmbeddings(vocab_size, embed_dims, max_length, dropout, pad_id)
        self.encoder = BertEncoder(embed_dims, depth, num_heads, dropout)
        self.apply(_init_weights)

    def forward(self, ids_T: Tensor, positions_T: Tensor, passes: Sequence[AttentionPass]) -> Tensor:
        """Features (T, E) of tokens; positions count from 0 in each text."""
        return self.encoder(self.embeddings(ids_T, positions_T), passes)


class BertEmbeddings(nn.Module):
    """Sum of the embeddings of a token, its position and type 0."""

    def __init__(self, vocab_size: int, embed_dims: int, max_length: int, dropout: float, pad_id: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, embed_dims, padding_idx=pad_id)
        self.position_embeddings = nn.Embedding(max_length, embed_dims)
        self.token_type_embeddings = nn.Embedding(1, embed_dims)
        self.LayerNorm = nn.LayerNorm(embed_dims, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids_T: Tensor, positions_T: Tensor) -> Tensor:
        x_TE = self.word_embeddings(ids_T) + self.position_embeddings(positions_T) + self.token_type_embeddings.weight
        return self.dropout(self.LayerNorm(x_TE))


class BertEncoder(nn.Module):
    """Layers, one after another."""

    def __init__(self, embed_dims: int, depth: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(embed_dims, num_heads, dropout) for _ in range(depth))

    def forward(self, x_TE: Tensor, passes: Sequence[AttentionPass]) -> Tensor:
        for layer in self.layer:
            x_TE = layer(x_TE, passes)
        return x_TE


class BertLayer(nn.Module):
    """Self-attention and MLP; after each, ``x = LayerNorm(x + f(x))``."""

    def __init__(self, embed_dims: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = BertAttention(embed_dims, num_heads, dropout)
        self.intermediate = BertIntermediate(embed_dims)
        self.output = BertOutput(4 * embed_dims, embed_dims, dropout)

    def forward(self, x_TE: Tensor, passes: Sequence[AttentionPass]) -> Tensor:
        x_TE = self.attention(x_TE, passes)
        return self.output(self.intermediate(x_TE), x_TE)


class BertAttention(nn.Module):
    """Self-attention with its residual."""

    def __init__(self, embed_dims: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.self = BertSelfAttention(embed_dims, num_heads, dropout)
        self.output = BertOutput(embed_dims, embed_dims, dropout)

    def forward(self, x_TE: Tensor, passes: Sequence[AttentionPass]) -> Tensor:
        return self.output(self.self(x_TE, passes), x_TE)


class BertIntermediate(nn.Module):
    """First layer of the MLP."""

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.dense = nn.Linear(embed_dims, 4 * embed_dims)

    def forward(self, x_TE: Tensor) -> Tensor:
        return F.gelu(self.dense(x_TE))


class BertOutput(nn.Module):
    """Linear layer, dropout, and the norm of the sum with the residual."""

    def __init__(self, in_dims: int, embed_dims: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(in_dims, embed_dims)
        self.LayerNorm = nn.LayerNorm(embed_dims, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_TF: Tensor, residual_TE: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x_TF)) + residual_TE)


class BertSelfAttention(nn.Module):
    """Multi-head attention of the tokens of each text."""

    def __init__(self, embed_dims: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query = nn.Linear(embed_dims, embed_dims)
        self.key = nn.Linear(embed_dims, embed_dims)
        self.value = nn.Linear(embed_dims, embed_dims)

    def forward(self, x_TE: Tensor, passes: Sequence[AttentionPass]) -> Tensor:
        weight = torch.cat([self.query.weight, self.key.weight, self.value.weight])
        bias = torch.cat([self.query.bias, self.key.bias, self.value.bias])
        qkv_TF = F.linear(x_TE, weight, bias)
        return torch.cat([self._attend(qkv_TF[one.tokens], one) for one in passes])

    def _attend(self, qkv_KF: Tensor, one: AttentionPass) -> Tensor:
        if one.kept_K is not None:
            padded_MF = qkv_KF.new_zeros(one.shape[0] * one.shape[1], qkv_KF.shape[1])
            qkv_KF = padded_MF.index_copy(0, one.kept_K, qkv_KF)
        q, k, v = qkv_KF.unflatten(0, one.shape).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        out_SHLc = F.scaled_dot_product_attention(q, k, v, attn_mask=one.mask_S11L, dropout_p=dropout)
        out_ME = out_SHLc.transpose(1, 2).flatten(2).flatten(0, 1)
        return out_ME if one.kept_K is None else out_ME[one.kept_K]


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        nn.init.zeros_(module.weight[module.padding_idx])
