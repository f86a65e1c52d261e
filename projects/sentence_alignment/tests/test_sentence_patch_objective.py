from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from ctvlm.engine import load_config
from ctvlm.registry import MODELS
from ctvlm.testing import check_objective
from ctvlm.testing.objectives import NAME, random_batch, small_model
from projects.sentence_alignment.sentence_patch_objective import SentencePatchObjective

CONFIG = Path(__file__).parents[1] / "configs" / "vit3d_sentence_phantom.py"


@pytest.fixture
def model():
    return small_model(dict(type=SentencePatchObjective))


def test_contract():
    """Includes exact gradient caching and one pass of the encoder and the text encoder per step."""
    check_objective("SentencePatchObjective")
    check_objective(SentencePatchObjective, max_sentences=1)


def test_loss_falls_on_one_batch(model):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        inputs, samples = random_batch()
        loss = model(inputs, samples, mode="loss")[f"loss_{NAME}"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_one_pair_for_each_sentence(model):
    inputs, samples = random_batch()
    features = model.features(inputs, copy.deepcopy(samples))[NAME]
    counts = [len(model.objectives[NAME].sentences(sample)) for sample in samples]
    assert counts == [3, 3, 3] and len(features.text_ids_M) == 9
    equal = samples[0].findings == samples[2].findings
    assert equal and torch.equal(features.text_ids_M[:3], features.text_ids_M[6:])


def test_predictions_for_each_sentence(model):
    inputs, samples = random_batch()
    samples[1].findings = ""
    predicted = model(inputs, samples, mode="predict")
    assert [tuple(sample.pred_sentences.shape) for sample in predicted] == [(3, 16), (0, 16), (3, 16)]
    assert [tuple(sample.pred_sentence_attention.shape) for sample in predicted] == [(3, 12), (0, 12), (3, 12)]
    torch.testing.assert_close(predicted[0].pred_sentence_attention.sum(dim=-1), torch.ones(3))


def test_config_adds_the_level_and_encodes_once(monkeypatch):
    config = load_config(CONFIG).model
    model = MODELS.build(config)
    model.fit_tokenizer(["A nodule in the lung.", "No effusion."])
    calls = []
    for part in ("backbone", "text_encoder"):
        getattr(model, part).register_forward_pre_hook(lambda *_, part=part: calls.append(part))
    inputs, samples = random_batch()
    inputs = dict(inputs, volume=torch.randn(3, 1, 8, 32, 32) * 300, region_map=None)
    for sample in samples:
        del sample.lesion_map
    losses = model(inputs, samples, mode="loss")
    assert {"loss_volume", "loss_step", "loss_sentence"} <= losses.keys()
    assert sorted(calls) == ["backbone", "text_encoder"]
