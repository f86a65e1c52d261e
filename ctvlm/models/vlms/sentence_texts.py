"""Embeddings of texts from those of their sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ctvlm.text.sentences import split_sentences


def embed_by_sentence(texts: Sequence[str], embed: Callable[[list[str]], Tensor]) -> Tensor:
    """Sum of the normalised embeddings of the sentences of each text (len(texts), P).

    An impression is then a set of findings, each of which a region can show. Sentences that refer to others lose their
    context. Each distinct sentence is embedded once.

    Args:
        embed: texts to embeddings (U, P).
    """
    parts = [split_sentences(text) or [text] for text in texts]
    number = {sentence: i for i, sentence in enumerate(dict.fromkeys(s for part in parts for s in part))}
    sentence_UP = F.normalize(embed(list(number)), dim=-1)
    rows_and_owners_2S = torch.tensor(
        [[number[s] for part in parts for s in part], [owner for owner, part in enumerate(parts) for _ in part]]
    )
    rows_S, owners_S = rows_and_owners_2S.to(sentence_UP.device, non_blocking=True)
    return sentence_UP.new_zeros(len(texts), sentence_UP.shape[1]).index_add(0, owners_S, sentence_UP[rows_S])
