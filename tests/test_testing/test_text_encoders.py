"""Every registered text encoder passes check_text_encoder, and the check names what broken encoders do wrong."""

from __future__ import annotations

import pytest
import torch

from ctvlm.models.text_encoders import CompactTextEncoder
from ctvlm.registry import TEXT_ENCODERS
from ctvlm.testing import check_text_encoder
from tests.test_models.text_checkpoints import save_bert


def test_no_text_encoder_is_left_out():
    registered = {name for name, cls in TEXT_ENCODERS.module_dict.items() if cls.__module__.startswith("ctvlm.")}
    # PublishedTextEncoder truncates long texts, as published code does: projects/ct_clip tests it.
    assert registered == {"CompactTextEncoder", "HFTextEncoder", "PublishedTextEncoder"}


def test_compact_text_encoder():
    check_text_encoder("CompactTextEncoder")


@pytest.mark.parametrize("train", ["frozen", "top"])
def test_hf_text_encoder(tmp_path, train):
    check_text_encoder("HFTextEncoder", pretrained=str(save_bert(tmp_path / "bert")), train=train)


class CutsTexts(CompactTextEncoder):
    def forward(self, texts):
        return super().forward([text[:40] for text in texts])


class MixesTexts(CompactTextEncoder):
    def forward(self, texts):
        features_UE = super().forward(texts)
        return features_UE - features_UE.mean(dim=0)


class DropsInEval(CompactTextEncoder):
    def forward(self, texts):
        return torch.nn.functional.dropout(super().forward(texts), 0.5)


class NoGradient(CompactTextEncoder):
    def forward(self, texts):
        return super().forward(texts).detach()


class HiddenState(CompactTextEncoder):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.offset = torch.rand(1)

    def forward(self, texts):
        return super().forward(texts) + self.offset


class NoWidth(CompactTextEncoder):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        del self.embed_dims


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        (CutsTexts, "long texts"),
        (MixesTexts, "batch independence"),
        (DropsInEval, "deterministic"),
        (NoGradient, "gradients"),
        (HiddenState, "state dict"),
        (NoWidth, "shape"),
    ],
)
def test_broken_text_encoder(encoder, name):
    with pytest.raises(AssertionError, match=f"{encoder.__name__}: property '{name}'"):
        check_text_encoder(encoder)
