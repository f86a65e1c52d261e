"""Small BERT with a tokenizer trained on the training texts; needs no download."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from ctvlm.models.text_encoders.base import BaseTextEncoder
from ctvlm.registry import TEXT_ENCODERS
from ctvlm.text.tokenizer import CLS, PAD, SEP, FittedTokenizerMixin
from ctvlm.utils.attention_masks import padding_mask


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
        config = BertConfig(
            vocab_size=vocab_size,
            hidden_size=embed_dims,
            num_hidden_layers=depth,
            num_attention_heads=num_heads,
            intermediate_size=4 * embed_dims,
            max_position_embeddings=max_length,
            type_vocab_size=1,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            pad_token_id=PAD,
        )
        self.bert = BertModel(config, add_pooling_layer=False)

    @property
    def num_special_tokens(self) -> int:
        return 2

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def encode_tokens(self, tokens: list[list[int]]) -> Tensor:
        device = self.bert.embeddings.word_embeddings.weight.device
        longest = max(len(ids) for ids in tokens)
        rows = [[CLS, *ids, SEP] + [PAD] * (longest - len(ids)) for ids in tokens]
        host_ids = torch.tensor(rows)
        input_ids = host_ids.to(device, non_blocking=True)
        mask = padding_mask(self.bert, host_ids != PAD, device)
        hidden_STE = self.bert(input_ids=input_ids, attention_mask=mask).last_hidden_state
        weight_ST1 = (input_ids != PAD)[..., None].to(hidden_STE.dtype)
        return (hidden_STE * weight_ST1).sum(dim=1) / weight_ST1.sum(dim=1)
