"""The offline default: a small BERT whose tokenizer is trained on the training texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import BertConfig, BertModel

from ctvlm.models.text_encoders.base import BaseTextEncoder
from ctvlm.registry import TEXT_ENCODERS

SPECIAL_TOKENS = ["[PAD]", "[CLS]", "[SEP]"]
PAD, CLS, SEP = 0, 1, 2


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A lower-case byte-level BPE tokenizer with at most ``vocab_size`` pieces, special tokens first.

    Byte-level, so that no word is ever unknown; BPE without word affixes, because the trainers that add
    affixes number their pieces in hash order: two runs of one seed would differ.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Sorted unique texts: the pieces do not depend on the order of the data set.
    tokenizer.train_from_iterator(sorted(set(texts)), trainer)
    return tokenizer


@TEXT_ENCODERS.register_module()
class CompactTextEncoder(BaseTextEncoder):
    """A small BERT, trained from scratch, mean-pooled.

    The tokenizer is fitted once before training and travels in the state dict as bytes, so a checkpoint
    alone restores the encoder.

    Args:
        vocab_size: upper bound of the vocabulary.
        embed_dims: width E of the embedding.
        depth: transformer layers.
        num_heads: attention heads.
        max_length: tokens per section; longer texts are split, see BaseTextEncoder.
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
        self.vocab_size = vocab_size
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
        self._tokenizer: Tokenizer | None = None
        self.register_buffer("tokenizer_bytes", torch.empty(0, dtype=torch.uint8))

    @property
    def num_special_tokens(self) -> int:
        return 2

    @property
    def needs_tokenizer(self) -> bool:
        return self.tokenizer_bytes.numel() == 0

    def fit_tokenizer(self, texts: Sequence[str]) -> None:
        """Train the tokenizer on the training texts.

        Raises:
            ValueError: when there is no text to train on.
        """
        if not any(text.strip() for text in texts):
            raise ValueError("The tokenizer cannot be trained: the training data set has no text.")
        self.load_tokenizer_state(train_tokenizer(texts, self.vocab_size).to_str())

    def tokenizer_state(self) -> str:
        return bytes(self.tokenizer_bytes.cpu().tolist()).decode("utf-8")

    def load_tokenizer_state(self, state: str) -> None:
        data = torch.tensor(list(state.encode("utf-8")), dtype=torch.uint8, device=self.tokenizer_bytes.device)
        self.tokenizer_bytes = data
        self._tokenizer = Tokenizer.from_str(state)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        saved = state_dict.get(prefix + "tokenizer_bytes")
        if saved is not None and saved.numel():
            self.load_tokenizer_state(bytes(saved.cpu().tolist()).decode("utf-8"))
        elif saved is not None:
            self.tokenizer_bytes = self.tokenizer_bytes.new_empty(0)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        if self._tokenizer is None:
            raise RuntimeError(
                "CompactTextEncoder has no tokenizer yet: train it with fit_tokenizer(texts), keep FitTokenizerHook "
                "in custom_hooks, or load a checkpoint."
            )
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def encode_tokens(self, tokens: list[list[int]]) -> Tensor:
        device = self.bert.embeddings.word_embeddings.weight.device
        longest = max(len(ids) for ids in tokens) + self.num_special_tokens
        input_ids = torch.full((len(tokens), longest), PAD)
        for row, ids in enumerate(tokens):
            input_ids[row, : len(ids) + 2] = torch.tensor([CLS, *ids, SEP])
        input_ids = input_ids.to(device)
        mask = input_ids != PAD
        hidden_STE = self.bert(input_ids=input_ids, attention_mask=mask).last_hidden_state
        weight_ST1 = mask[..., None].to(hidden_STE.dtype)
        return (hidden_STE * weight_ST1).sum(dim=1) / weight_ST1.sum(dim=1)
