"""A tokenizer that is trained on the training texts and travels in the state dict."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

SPECIAL_TOKENS = ["[PAD]", "[CLS]", "[SEP]"]
PAD, CLS, SEP = 0, 1, 2


def train_tokenizer(texts: Sequence[str], vocab_size: int, lowercase: bool = True) -> Tokenizer:
    """A byte-level BPE tokenizer with at most ``vocab_size`` pieces, special tokens first.

    Byte-level, so that no word is ever unknown; BPE without word affixes, because the trainers that add
    affixes number their pieces in hash order: two runs of one seed would differ.
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
    # Sorted unique texts: the pieces do not depend on the order of the data set.
    tokenizer.train_from_iterator(sorted(set(texts)), trainer)
    return tokenizer


def to_bytes(text: str, device: torch.device | None = None) -> Tensor:
    """Text as a uint8 tensor, which a checkpoint of plain tensors can hold."""
    return torch.tensor(list(text.encode("utf-8")), dtype=torch.uint8, device=device)


def from_bytes(data: Tensor) -> str:
    """The text of ``to_bytes``."""
    return bytes(data.cpu().tolist()).decode("utf-8")


class FittedTokenizerMixin:
    """For a module with a tokenizer of its own, fitted once before training (see FitTokenizerHook).

    It is kept in the state dict as bytes, so that a checkpoint alone restores it. The module calls
    ``init_tokenizer`` in its constructor.
    """

    def init_tokenizer(self, vocab_size: int, lowercase: bool = True) -> None:
        """Start without a tokenizer of at most ``vocab_size`` pieces; text to be written out again keeps its case."""
        self.vocab_size = vocab_size
        self.lowercase = lowercase
        self._tokenizer: Tokenizer | None = None
        self.register_buffer("tokenizer_bytes", torch.empty(0, dtype=torch.uint8))

    @property
    def needs_tokenizer(self) -> bool:
        return self.tokenizer_bytes.numel() == 0

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise RuntimeError(
                f"{type(self).__name__} has no tokenizer yet: train it with fit_tokenizer(texts), keep "
                "FitTokenizerHook among the hooks, or load a checkpoint."
            )
        return self._tokenizer

    def fit_tokenizer(self, texts: Sequence[str]) -> None:
        """Train the tokenizer on the training texts.

        Raises:
            ValueError: when there is no text to train on.
        """
        if not any(text.strip() for text in texts):
            raise ValueError("The tokenizer cannot be trained: the training data set has no text.")
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
