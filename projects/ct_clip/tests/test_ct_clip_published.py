"""CT-CLIP's own embeddings of volumes and texts, compared with a second implementation in plain tensor operations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ctvlm.models.vlms import PublishedVLM
from ctvlm.utils import CTVLMError
from ctvlm.utils.errors import CheckpointError
from ctvlm.utils.pretrained_files import pretrained_sources, use_pretrained_files
from projects.ct_clip.tests.test_ct_clip_tower import (  # noqa: F401  (hu_DHW is a fixture)
    CODES,
    HEAD,
    HEADS,
    SIZES,
    WIDTH,
    hu_DHW,
    layout,
    naive_tokens,
    nearest,
)
from tests.published_text import WIDTH as TEXT_WIDTH, bert_layout, naive_bert, random_weights, relative, token_ids
from tests.test_models.text_checkpoints import save_cxr_bert

SIZE, SPACING, GIVEN = (40, 80, 80), (2.0, 3.5, 3.5), (3.0, 3.1, 2.7)  # of the tower (z, x, y); of the volume (z, y, x)
OUT = 12
TEXTS = ["No pleural effusion.", "A small nodule in the left upper lobe", "Cardiomegaly is present.", "no " * 60]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Config and tokenizer of the text encoder, as published."""
    return save_cxr_bert(tmp_path_factory.mktemp("cxr_bert"))


@pytest.fixture(scope="module")
def weights():
    """Random weights in the published layout, with the parts that are not used."""
    places = (SIZE[1] // 20) * (SIZE[2] // 20)
    found = {f"visual_transformer.{k}": v for k, v in random_weights(layout(WIDTH, HEADS, HEAD, CODES)).items()}
    found |= {f"text_transformer.{k}": v for k, v in random_weights(bert_layout(), 1, std=0.4).items()}
    found["text_transformer.embeddings.position_ids"] = torch.arange(40)[None]
    latents = {"to_text_latent": (OUT, TEXT_WIDTH), "to_visual_latent": (OUT, places * WIDTH)}
    latents |= {f"{name}_extra": shape for name, shape in latents.items()}
    found |= random_weights({f"{name}.weight": shape for name, shape in latents.items()}, 2)
    return found | {"temperature": torch.tensor(1.3)}


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "CT-CLIP.pt"
    torch.save(weights, path)
    return str(path)


def model_of(file, folder, tower=None, text=None, **options):
    """The model of the config in a smaller size."""
    text_encoder = dict(
        type="PublishedTextEncoder",
        pretrained=str(folder),
        weights=file,
        **(dict(prefix="text_transformer.", head_prefix="to_text_latent.", out_dims=OUT) | (text or {})),
    )
    settings = dict(
        tower=dict(type="CTClipTower", **(dict(img_size=SIZE, spacing=SPACING, out_dims=OUT) | SIZES | (tower or {}))),
        text_encoder=text_encoder,
        pretrained=file,
        prefix="visual_transformer.",
        head_prefix="to_visual_latent.",
        logit_scale=dict(key="temperature", stored="log"),
    )
    return PublishedVLM(**{**settings, **options})


def published_canvas(hu_DHW, spacing_zyx):  # noqa: F811
    """Window, axes towards (S, L, P), torch's interpolation to a rounded size, crop and padding around the centre."""
    array = hu_DHW.numpy().astype(np.float64).clip(-1000, 1000).transpose(0, 2, 1)[:, ::-1, ::-1] / 1000
    given = (spacing_zyx[0], spacing_zyx[2], spacing_zyx[1])
    sizes = [int(n * (g / t)) for n, g, t in zip(array.shape, given, SPACING)]
    found = F.interpolate(torch.from_numpy(array.copy())[None, None], sizes, mode="trilinear")[0, 0].numpy()
    canvas = np.full(SIZE, -1.0)
    inside, part = [], []
    for size, wanted in zip(found.shape, SIZE):
        start, kept = max((size - wanted) // 2, 0), min(size, wanted)
        part.append(slice(start, start + kept))
        inside.append(slice((wanted - kept) // 2, (wanted - kept) // 2 + kept))
    canvas[tuple(inside)] = found[tuple(part)]
    assert found.shape[0] > SIZE[0] and found.shape[1] < SIZE[1]  # cropped and padded
    return torch.from_numpy(canvas)


def test_volume_embedding_equals_a_naive_version_on_a_real_ct(weights, hu_DHW, folder, tmp_path, record_property):  # noqa: F811
    below = {k.removeprefix("visual_transformer."): v.double() for k, v in weights.items() if k.startswith("visual_")}
    tokens = naive_tokens(below, published_canvas(hu_DHW, GIVEN))
    # Codes that are tokens of another length, so that many are used and none is almost as similar as another.
    scale = torch.linspace(0.5, 2.0, CODES, dtype=torch.float64)[:, None]
    codes = tokens.flatten(0, 2)[torch.randperm(64, generator=torch.Generator().manual_seed(3))[:CODES]] * scale
    changed = weights | {"visual_transformer.vq._codebook.embed": codes[None].float()}
    torch.save(changed, tmp_path / "weights.pt")
    quantised = nearest(codes, tokens)
    expected = weights["to_visual_latent.weight"].double() @ quantised.mean(dim=0).flatten()
    model = model_of(str(tmp_path / "weights.pt"), folder)
    found = model(dict(volume=hu_DHW[None, None], spacing=torch.tensor([GIVEN])))[0]
    record_property("relative difference", relative(found, expected))
    assert relative(found, expected) <= 1e-4
    other = model(dict(volume=hu_DHW[None, None].flip(2), spacing=torch.tensor([GIVEN])))[0]
    assert relative(other, expected) > 0.01


def test_text_embeddings_equal_a_naive_version(weights, file, folder, record_property):
    below = {k.removeprefix("text_transformer."): v for k, v in weights.items() if k.startswith("text_transformer.")}
    rows = [naive_bert(below, token_ids(text))[0] for text in TEXTS]  # the last text is truncated
    expected = torch.stack(rows) @ weights["to_text_latent.weight"].double().T
    found = model_of(file, folder).embed_texts(TEXTS)
    record_property("relative difference", relative(found, expected))
    assert relative(found, expected) <= 1e-4
    assert relative(found.roll(1, 0), expected) > 0.01


def test_scale_and_records(file, folder):
    model = model_of(file, folder)
    assert model.logit_scale() == pytest.approx(math.exp(1.3))
    assert model.training_data and not model_of(None, folder, text=dict()).training_data
    with pytest.raises(CTVLMError, match="evaluated as published"):
        model(dict(volume=torch.zeros(1, 1, 40, 80, 80), spacing=torch.ones(1, 3)), [], mode="loss")


def test_a_checkpoint_opens_with_a_config_without_the_path(file, folder):
    state = model_of(file, folder).state_dict()
    with use_pretrained_files(state):
        model = model_of(None, folder)
    model.load_state_dict(state)
    assert pretrained_sources(model.state_dict()) == pretrained_sources(state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_other_files_are_one_message(weights, file, folder, tmp_path):
    def saved(changed):
        torch.save(changed, tmp_path / "changed.pt")
        return str(tmp_path / "changed.pt")

    renamed = {key.replace("self.query", "self.q"): value for key, value in weights.items()}
    with pytest.raises(CheckpointError, match=r"attention\.self\.query.*missing|missing.*attention\.self\.query"):
        model_of(saved(renamed), folder)
    without = {key: value for key, value in weights.items() if not key.startswith("to_visual_latent.")}
    with pytest.raises(CheckpointError, match=r"prefix = 'to_visual_latent\.'.*model\.head_prefix"):
        model_of(saved(without), folder)
    with pytest.raises(CheckpointError, match=r"another shape \(weight .*model\.tower"):
        model_of(file, folder, tower=dict(img_size=(40, 80, 100)))
    with pytest.raises(CheckpointError, match=r"another shape \(0\.weight .*text_encoder\.out_dims"):
        model_of(file, folder, text=dict(out_dims=5))
    with pytest.raises(CheckpointError, match=r"prefix = 'bert\.'; found visual_transformer.*text_encoder\.prefix"):
        model_of(file, folder, text=dict(prefix="bert."))
    with pytest.raises(CheckpointError, match=r"key = 'logit_scale'; found no such weight.*one number: .*temperature"):
        model_of(file, folder, logit_scale=dict(key="logit_scale", stored="log"))
    with pytest.raises(CTVLMError, match="cannot be loaded.*config.json"):
        model_of(file, tmp_path)
    with pytest.raises(CTVLMError, match="no published embedding.*out_dims"):
        model_of(file, folder, tower=dict(out_dims=None))
