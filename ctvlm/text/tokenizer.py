"""Tokenizer that is trained on the training texts and stored in the state dict."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn

SPECIAL_TOKENS = ["[PAD]", "[CLS]", "[SEP]"]
PAD, CLS, SEP = 0, 1, 2


def train_tokenizer(texts: Sequence[str], vocab_size: int, lowercase: bool = True) -> Tokenizer:
    """Train a byte-level BPE tokenizer with at most ``vocab_size`` tokens, special tokens first.

    Byte-level, so that no word is unknown. Without word affixes, because trainers with affixes number their tokens in
    hash order, which would differ between runs with one seed.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Sorted unique texts: the tokens do not depend on the order of the data set.
    tokenizer.train_from_iterator(sorted(set(texts)), trainer)
    return tokenizer


def to_bytes(text: str, device: torch.device | None = None) -> Tensor:
    """Text as a uint8 tensor, for checkpoints of plain tensors."""
    return torch.tensor(list(text.encode("utf-8")), dtype=torch.uint8, device=device)


def from_bytes(data: Tensor) -> str:
    """Inverse of ``to_bytes``."""
    return bytes(data.cpu().tolist()).decode("utf-8")


class FittedTokenizerMixin(nn.Module):
    """Mixin for a module with its own tokenizer, which is fitted once before training (see FitTokenizerHook).

    The tokenizer is stored as bytes in the state dict, so that a checkpoint restores it. The module calls
    ``init_tokenizer`` in its constructor.
    """

    tokenizer_bytes: Tensor
    _tokenizer: Tokenizer | None

    def init_tokenizer(self, vocab_size: int, lowercase: bool = True) -> None:
        """Set the options of the tokenizer.

        Args:
            vocab_size: maximum number of tokens.
            lowercase: convert texts to lower case; False for modules that generate text.
        """
        self.vocab_size = vocab_size
        self.lowercase = lowercase
        self._tokenizer = None
        self.register_buffer("tokenizer_bytes", torch.empty(0, dtype=torch.uint8))

    @property
    def needs_tokenizer(self) -> bool:
        return self.tokenizer_bytes.numel() == 0

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise RuntimeError(
                f"{type(self).__name__}: the tokenizer is not fitted. Call fit_tokenizer(texts), train with "
                "FitTokenizerHook, or load a checkpoint."
            )
        return self._tokenizer

    def fit_tokenizer(self, texts: Sequence[str]) -> None:
        """Train the tokenizer on the training texts.

        Raises:
            ValueError: all texts are empty.
        """
        if not any(text.strip() for text in texts):
            raise ValueError(f"texts: found {len(texts)} empty texts; expected training texts for the tokenizer.")
        self.load_tokenizer_state(train_tokenizer(texts, self.vocab_size, self.lowercase).to_str())

    def tokenizer_state(self) -> str:
        return from_bytes(self.tokenizer_bytes)

    def load_tokenizer_state(self, state: str) -> None:
        self.tokenizer_bytes = to_bytes(state, self.tokenizer_bytes.device)
        self._tokenizer = Tokenizer.from_str(state)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        saved = state_dict.get(prefix + "tokenizer_bytes")
        if saved is not None and saved.numel():
            self.load_tokenizer_state(from_bytes(saved))
        elif saved is not None:
            self.tokenizer_bytes = self.tokenizer_bytes.new_empty(0)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
