"""The texts of a batch: objectives request them, then each distinct text is encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ctvlm.structures import CTDataSample

# Encoded if no text is requested: encoders take no empty list, and every rank must use all of its parameters.
NO_TEXT = "no text"


def drop_blank_steps(data_samples: Sequence[CTDataSample]) -> None:
    """Remove steps without text from the samples: they are not pairs and get no predictions."""
    for sample in data_samples:
        if not all(step.text.strip() for step in sample.steps):
            sample.steps = [step for step in sample.steps if step.text.strip()]


class TextBank:
    """Distinct texts of a batch and their embeddings, computed in one pass at first use.

    Args:
        data_samples: the cases (B).
        embed: texts to embeddings (U, P), not normalised.
    """

    def __init__(self, data_samples: Sequence[CTDataSample], embed: Callable[[list[str]], Tensor]) -> None:
        self.samples = data_samples
        self._embed = embed
        self._requested: list[dict[str, None]] = [{} for _ in data_samples]

    def request(self, case: int, texts: Sequence[str]) -> None:
        """Add texts of a case. Blank texts are ignored.

        Raises:
            RuntimeError: the texts are encoded already.
        """
        if "text_UP" in self.__dict__:
            raise RuntimeError("the texts of this batch are encoded already: request texts in Objective.request")
        self._requested[case].update(dict.fromkeys(text for text in texts if text.strip()))

    @cached_property
    def texts(self) -> list[str]:
        """The distinct texts (U), by case and by order of request. At least one."""
        return list(dict.fromkeys(text for of_case in self._requested for text in of_case)) or [NO_TEXT]

    @cached_property
    def _number(self) -> dict[str, int]:
        return {text: number for number, text in enumerate(self.texts)}

    @cached_property
    def text_UP(self) -> Tensor:
        """Embeddings of ``texts``."""
        return self._embed(self.texts)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of requested texts (len(texts), P), not normalised.

        Raises:
            KeyError: a text that no objective has requested.
        """
        index_M = torch.tensor(self.index(texts), dtype=torch.long)
        return self.text_UP[index_M.to(self.text_UP.device, non_blocking=True)]

    @cached_property
    def _unit_UP(self) -> Tensor:
        return F.normalize(self.text_UP, dim=-1).float().cpu()

    def unit_embed(self, texts: Sequence[str]) -> Tensor:
        """Normalised embeddings of requested texts, float32 on the CPU."""
        return self._unit_UP[torch.tensor(self.index(texts), dtype=torch.long)]

    def index(self, texts: Sequence[str]) -> list[int]:
        """Numbers of requested texts among ``texts``."""
        return [self._number[text] for text in texts]
