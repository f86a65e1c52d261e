"""Merlin's own embeddings: of volumes as the package computes them, of texts in plain tensor operations."""

from __future__ import annotations

import pytest
import torch

from ctvlm.models.vlms import PublishedVLM
from ctvlm.utils.errors import CheckpointError
from projects.merlin.merlin_text import separated
from projects.merlin.tests.test_merlin_tower import PREFIX, SMALL, hu_1DHW, published  # noqa: F401  (fixtures)
from tests.published_text import DEPTH, WIDTH, bert_layout, naive_bert, random_weights, relative, token_ids
from tests.test_models.text_checkpoints import save_longformer

OUT, SIZE, GIVEN = 512, (96, 96, 64), (3.3, 1.9, 1.7)
TEXTS = ["No pleural effusion.", "A Small nodule in the LEFT upper lobe", "no " * 60]


@pytest.fixture(scope="module")
def text_weights():
    """Random weights of the text encoder in the published layout."""
    shapes = bert_layout(positions=42, types=1)
    for i in range(DEPTH):
        for name in ("query_global", "key_global", "value_global"):
            layer = f"encoder.layer.{i}.attention.self.{name}"
            shapes |= {f"{layer}.weight": (WIDTH, WIDTH), f"{layer}.bias": (WIDTH,)}
    found = {f"text_encoder.{name}": value for name, value in random_weights(shapes, 1, std=0.4).items()}
    found["text_encoder.embeddings.position_ids"] = torch.arange(42)[None]
    return found | random_weights({"linear_layer.weight": (OUT, WIDTH), "linear_layer.bias": (OUT,)}, 2)


@pytest.fixture(scope="module")
def files(published, text_weights, tmp_path_factory):  # noqa: F811
    """File of the model, and folder of its text encoder's config and tokenizer."""
    folder = tmp_path_factory.mktemp("merlin_published")
    state = {PREFIX + name: value for name, value in published[0].state_dict().items()}
    state |= {f"encode_text.{name}": value for name, value in text_weights.items()}
    torch.save(state | {"logit_scale": torch.ones(())}, folder / "merlin.pt")
    return str(folder / "merlin.pt"), str(save_longformer(folder / "text"))


def model_of(files, bias=True):
    file, folder = files
    text = dict(prefix="encode_text.text_encoder.", head_prefix="encode_text.linear_layer.", out_dims=OUT, bias=bias)
    return PublishedVLM(
        tower=dict(type="MerlinTower", blocks=SMALL, img_size=SIZE, out_dims=OUT),
        text_encoder=dict(type="MerlinTextEncoder", pretrained=folder, weights=file, **text),
        pretrained=file,
        prefix=PREFIX,
        head_prefix=f"{PREFIX}contrastive_head.",
    )


def test_volume_embedding_equals_the_package_on_a_real_ct(files, published, hu_1DHW, record_property):  # noqa: F811
    transforms = pytest.importorskip("monai.transforms", reason="the package reads volumes with MONAI")
    from merlin.data.monai_transforms import ImageTransforms
    from monai.data import MetaTensor

    affine = torch.diag(torch.tensor([-GIVEN[2], -GIVEN[1], GIVEN[0], 1.0], dtype=torch.float64))
    stored = MetaTensor(hu_1DHW.permute(0, 3, 2, 1).flip(1, 2), affine=affine)
    # The package's transforms, with a smaller size.
    sizes = [transforms.SpatialPadd("image", SIZE), transforms.CenterSpatialCropd("image", SIZE)]
    steps = transforms.Compose([*ImageTransforms.transforms[2:5], *sizes])
    with torch.no_grad():
        expected = published[0](steps({"image": stored})["image"].as_tensor()[None])[0][0]
    model, inputs = model_of(files), dict(volume=hu_1DHW[None], spacing=torch.tensor([GIVEN]))
    found = model(inputs)[0]
    record_property("relative difference", relative(found, expected))
    assert relative(found, expected) <= 1e-4
    assert relative(model(inputs | dict(volume=hu_1DHW[None].flip(4)))[0], expected) > 1e-3


def test_text_embeddings_equal_a_naive_version(text_weights, files, record_property):
    below = {k.removeprefix("text_encoder."): v for k, v in text_weights.items() if k.startswith("text_encoder.")}
    rows = [naive_bert(below, token_ids(text), first=2)[0] for text in TEXTS]  # the last text is truncated
    expected = torch.stack(rows) @ text_weights["linear_layer.weight"].double().T + text_weights["linear_layer.bias"]
    found = model_of(files).embed_texts(TEXTS)
    record_property("relative difference", relative(found, expected))
    assert relative(found, expected) <= 1e-4
    assert relative(found.roll(1, 0), expected) > 0.01


def test_texts_are_separated_as_in_the_package():
    tokenize = pytest.importorskip("nltk.tokenize", reason="nltk comes with merlin-vlm").wordpunct_tokenize
    for text in ("Small nodule (3.5 cm), RIGHT lung.", "No effusion;no\tmass -- stable..", "è normal_size"):
        assert separated(text) == " ".join(tokenize(text.lower()))


def test_another_projection_is_one_message(files):
    with pytest.raises(CheckpointError, match=r"1 are not in the model \(0\.bias\).*text_encoder\.head_prefix"):
        model_of(files, bias=False)
