"""HLIP's own embeddings of volumes and texts, compared with a second implementation in plain tensor operations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ctvlm.models.vlms import PublishedVLM
from ctvlm.utils.errors import CheckpointError
from projects.hlip.tests.test_hlip_tower import DEPTH, SMALL, WIDTH, hu_DHW, layout, naive  # noqa: F401  (a fixture)
from tests.published_text import WIDTH as TEXT_WIDTH, bert_layout, naive_bert, random_weights, relative, token_ids
from tests.test_models.text_checkpoints import save_bert

OUT, SIZE, SPACING = 12, (32, 96, 96), (3.0, 1.0, 1.0)
GIVEN = (3.4, 0.9, 0.8)  # mm of the volume (z, y, x): cropped along z and x, padded along y
TEXTS = ["The volume shows: nodule.", "The volume shows: Not effusion.", "no " * 60]


@pytest.fixture(scope="module")
def weights():
    """Random weights in the published layout."""
    found = {f"visual.trunk.{k}": v for k, v in random_weights(layout(WIDTH, DEPTH, SIZE), std=0.2).items()}
    found |= {f"text.transformer.{k}": v for k, v in random_weights(bert_layout(), 1, std=0.4).items()}
    found["text.transformer.embeddings.position_ids"] = torch.arange(40)[None]
    found |= random_weights({"visual.head.proj.weight": (OUT, WIDTH), "text.proj.weight": (OUT, TEXT_WIDTH)}, 2)
    return found | {"logit_scale": torch.tensor(2.5)}


@pytest.fixture(scope="module")
def files(weights, tmp_path_factory):
    """File of the model, and folder of its text encoder's config and tokenizer."""
    folder = tmp_path_factory.mktemp("hlip")
    state = {f"module.{name}": value for name, value in weights.items()}
    torch.save({"epoch": 20, "name": "hlip", "state_dict": state}, folder / "hlip.pt")
    return str(folder / "hlip.pt"), str(save_bert(folder / "text"))


def model_of(files, prefix="module.visual.trunk."):
    file, folder = files
    return PublishedVLM(
        tower=dict(type="HLIPTower", out_dims=OUT, **{**SMALL, "img_size": SIZE, "spacing": SPACING}),
        text_encoder=dict(
            type="PublishedTextEncoder",
            pretrained=folder,
            weights=file,
            prefix="module.text.transformer.",
            head_prefix="module.text.proj.",
            out_dims=OUT,
        ),
        pretrained=file,
        prefix=prefix,
        head_prefix="module.visual.head.proj.",
        logit_scale=dict(key="module.logit_scale", stored="log"),
    )


def published_canvas(hu_DHW):  # noqa: F811
    """Axes towards (S, P, L), torch's interpolation to a rounded size, window, padding, crop, normalisation."""
    array = torch.from_numpy(hu_DHW.numpy().astype(np.float64)[:, ::-1, ::-1].copy())
    sizes = [int(n * g / t) for n, g, t in zip(array.shape, GIVEN, SPACING)]
    found = F.interpolate(array[None, None], sizes, mode="trilinear")[0, 0]
    found = ((found + 1150) / 1500).clamp(0, 1)
    pads = [max(wanted - size, 0) for wanted, size in zip(SIZE, found.shape)]
    found = F.pad(found, [n for p in reversed(pads) for n in (p // 2, p - p // 2)])
    starts = [(size - wanted) // 2 for wanted, size in zip(SIZE, found.shape)]
    assert any(pads) and any(starts)
    z, y, x = (slice(start, start + wanted) for start, wanted in zip(starts, SIZE))
    return (found[z, y, x] - np.mean([0.485, 0.456, 0.406])) / np.mean([0.229, 0.224, 0.225])


def test_volume_embedding_equals_a_naive_version_on_a_real_ct(weights, files, hu_DHW, record_property):  # noqa: F811
    below = {k.removeprefix("visual.trunk."): v for k, v in weights.items() if k.startswith("visual.trunk.")}
    _, token = naive(below, published_canvas(hu_DHW), SMALL["scan_blocks"])
    expected = weights["visual.head.proj.weight"].double() @ token
    model, inputs = model_of(files), dict(volume=hu_DHW[None, None], spacing=torch.tensor([GIVEN]))
    found = model(inputs)[0]
    record_property("relative difference", relative(found, expected))
    assert relative(found, expected) <= 1e-4
    assert relative(model(inputs | dict(volume=hu_DHW[None, None].flip(3)))[0], expected) > 0.01


def test_text_embeddings_equal_a_naive_version(weights, files, record_property):
    below = {k.removeprefix("text.transformer."): v for k, v in weights.items() if k.startswith("text.transformer.")}
    rows = [naive_bert(below, token_ids(text))[0] for text in TEXTS]  # the last text is truncated
    model, expected = model_of(files), torch.stack(rows) @ weights["text.proj.weight"].double().T
    found = model.embed_texts(TEXTS)
    record_property("relative difference", relative(found, expected))
    assert relative(found, expected) <= 1e-4
    assert relative(found.roll(1, 0), expected) > 0.01
    assert model.logit_scale() == pytest.approx(math.exp(2.5))


def test_another_prefix_is_one_message(files):
    with pytest.raises(CheckpointError, match=r"prefix = 'visual\.trunk\.'; found module\.visual.*model\.prefix"):
        model_of(files, prefix="visual.trunk.")
