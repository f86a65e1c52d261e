"""Texts embedded by sentence."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ctvlm.models.vlms.sentence_texts import embed_by_sentence

SENTENCES = ["Large left pleural effusion.", "Small hepatic cyst.", "No pneumothorax."]


class Encoder:
    def __init__(self) -> None:
        self.read: list[list[str]] = []

    def __call__(self, texts: list[str]) -> torch.Tensor:
        self.read.append(texts)
        rows = [torch.randn(5, generator=torch.Generator().manual_seed(sum(text.encode()))) for text in texts]
        return torch.stack(rows)


def test_equals_the_sum_over_sentences():
    encoder = Encoder()
    texts = [" ".join(SENTENCES), SENTENCES[1], "\n".join(reversed(SENTENCES[:2]))]
    found_BP = embed_by_sentence(texts, encoder)
    one = F.normalize(Encoder()(SENTENCES), dim=-1)
    torch.testing.assert_close(found_BP, torch.stack([one.sum(dim=0), one[1], one[0] + one[1]]))
    assert [sorted(read) for read in encoder.read] == [sorted(SENTENCES)]


def test_a_text_without_sentences_is_embedded_whole():
    assert torch.equal(embed_by_sentence([" "], Encoder()), F.normalize(Encoder()([" "]), dim=-1))
