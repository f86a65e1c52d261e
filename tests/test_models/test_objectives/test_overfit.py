"""Objectives overfit one batch of phantoms."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.dataset import pseudo_collate

from ctvlm.datasets.transforms import PackCTInputs
from ctvlm.phantom import PhantomCT
from ctvlm.structures import CoTStep
from ctvlm.testing.objectives import small_model


@pytest.fixture(scope="module")
def dataset():
    return PhantomCT(num_cases=4, shape=(8, 16, 16), pipeline=[PackCTInputs()], num_workers=0)


def overfit(dataset, objective, steps, change=lambda samples: None):
    """The model, its batch of four phantoms, and the loss after some steps."""
    model = small_model(objective)
    model.fit_tokenizer(dataset.texts())
    batch = model.data_preprocessor(pseudo_collate([dataset[i] for i in range(4)]))
    change(batch["data_samples"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(**copy.deepcopy(batch), mode="loss")["loss_checked"]
        loss.backward()
        optimizer.step()
    return model, batch, loss.item()


def same_words(samples):
    """Each sentence is true for two cases and false for the others, so that the wording says nothing."""
    for number, sample in enumerate(samples):
        side, seen = ("right", "left")[number % 2], ("No cyst is seen.", "There is no cyst.")[number // 2]
        sample.steps = [
            CoTStep(f"There is an effusion in the {side} pleural space.", entities=("effusion",)),
            CoTStep(seen if number % 2 else seen.replace("No cyst", "A cyst").replace("no cyst", "a cyst")),
        ]


def test_opposites_are_learned_from_the_volume(dataset):
    model, batch, loss = overfit(dataset, dict(type="OppositeTextObjective"), 200, same_words)
    assert loss < 0.2
    model.set_predictions({"pred_opposites", "pred_opposite_texts"})
    volume_BP = model.context(batch["inputs"]).volume_BP.detach()
    for sample, volume_P in zip(model(**batch, mode="predict"), volume_BP, strict=True):
        cosine_O2 = sample.pred_opposite_texts @ volume_P
        sides = torch.tensor([pair["kind"] == "laterality" for pair in sample.pred_opposites])
        assert (cosine_O2[sides, 0] > cosine_O2[sides, 1]).all()


def two_labels(samples):
    """The four combinations of two labels: the best guess without the volume has a loss of log 2."""
    for number, sample in enumerate(samples):
        sample.labels = {"Effusion": number % 2, "Cyst": number // 2}


def test_labels_are_learned_by_their_prompts(dataset):
    objective = dict(type="PromptClassificationObjective", names=["Effusion", "Cyst"])
    _, _, loss = overfit(dataset, objective, 200, two_labels)
    assert loss < 0.2


def test_masked_patches_are_learned(dataset):
    """The mean of a patch as its prediction gives a loss of nearly 1."""
    decoder = dict(patch_size=(2, 4, 4), embed_dims=48)
    _, _, loss = overfit(dataset, dict(type="MaskedReconstructionObjective", decoder=decoder), 120)
    assert loss < 0.5
