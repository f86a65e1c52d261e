"""Tokenizers of a model that are fitted to the training texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from torch import nn


class FittedTokenizers(nn.Module):
    """Interface of FitTokenizerHook for a model whose parts have tokenizers of their own."""

    def needs_tokenizer(self) -> bool:
        return any(part.needs_tokenizer for part in self._tokenizing().values())

    def fit_tokenizer(self, texts: Sequence[str]) -> None:
        """Fit every tokenizer that is not fitted yet."""
        for part in self._tokenizing().values():
            if part.needs_tokenizer:
                part.fit_tokenizer(texts)

    def tokenizer_state(self) -> str:
        """All tokenizers as JSON, to be sent to other ranks."""
        return json.dumps({name: part.tokenizer_state() for name, part in self._tokenizing().items()})

    def load_tokenizer_state(self, state: str) -> None:
        for name, part_state in json.loads(state).items():
            self._tokenizing()[name].load_tokenizer_state(part_state)

    def _tokenizing(self) -> dict[str, Any]:
        return {name: part for name, part in self.named_modules() if name and hasattr(part, "fit_tokenizer")}
