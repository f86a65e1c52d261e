"""Small BERT with a tokenizer trained on the training texts; needs no download."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ctvlm.models.text_encoders.base import BaseTextEncoder
from ctvlm.models.text_encoders.packed_bert import PackedBert, attention_passes
from ctvlm.models.text_encoders.passes import packed_pass_cost
from ctvlm.registry import TEXT_ENCODERS
from ctvlm.text.tokenizer import CLS, PAD, SEP, FittedTokenizerMixin


@TEXT_ENCODERS.register_module()
class CompactTextEncoder(FittedTokenizerMixin, BaseTextEncoder):
    """A small BERT, trained from scratch, mean-pooled.

    The tokenizer is fitted once before training and stored in the state dict as bytes, so a checkpoint is enough to
    restore the encoder.

    Args:
        vocab_size: upper bound of the vocabulary.
        embed_dims: width E of the embedding.
        depth: transformer layers.
        num_heads: attention heads.
        max_length, bucket_size: see BaseTextEncoder.
        dropout: dropout of the transformer.
    """

    def __init__(
        self,
        vocab_size: int = 2048,
        embed_dims: int = 128,
        depth: int = 2,
        num_heads: int = 4,
        max_length: int = 128,
        dropout: float = 0.1,
        bucket_size: int = 32,
    ):
        super().__init__(max_length, bucket_size)
        self.init_tokenizer(vocab_size)
        self.embed_dims = embed_dims
        self.bert = PackedBert(vocab_size, embed_dims, depth, num_heads, max_length, dropout, PAD)

    @property
    def num_special_tokens(self) -> int:
        return 2

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def encode_sorted(self, tokens: list[list[int]]) -> Tensor:
        device = self.bert.embeddings.word_embeddings.weight.device
        lengths_S = torch.tensor([len(ids) + self.num_special_tokens for ids in tokens])
        lengths = lengths_S.tolist()
        columns_3T = torch.stack(
            [
                torch.tensor([token for ids in tokens for token in (CLS, *ids, SEP)]),
                torch.cat([torch.arange(length) for length in lengths]),
                torch.arange(len(lengths)).repeat_interleave(lengths_S),
            ]
        )
        ids_T, positions_T, owner_T = columns_3T.to(device, non_blocking=True)
        passes = attention_passes(lengths, self.bucket_size, packed_pass_cost(device.type), device)
        hidden_TE = self.bert(ids_T, positions_T, passes)
        sum_SE = hidden_TE.new_zeros(len(lengths), self.embed_dims).index_add(0, owner_T, hidden_TE)
        return sum_SE / lengths_S.to(device, non_blocking=True)[:, None]
