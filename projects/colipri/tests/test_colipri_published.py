"""COLIPRI's own embeddings of volumes and texts, compared with a second implementation on TorchIO's transforms."""

from __future__ import annotations

import pytest
import torch

from ctvlm.models.text_encoders import PublishedTextEncoder
from ctvlm.models.vlms import PublishedVLM
from ctvlm.utils.errors import CheckpointError
from projects.colipri.tests.test_colipri_tower import (  # noqa: F401  (hu_DHW is a fixture)
    DEPTH,
    SMALL,
    WIDTH,
    hu_DHW,
    layout,
    naive,
)
from tests.published_text import WIDTH as OUT, bert_layout, naive_bert, random_weights, relative, token_ids
from tests.test_models.text_checkpoints import save_cxr_bert

HEADS = 2  # of the text encoder's pooling
GIVEN = (2.6, 1.65, 2.3)  # mm of the volume (z, y, x): cropped, padded by an odd number, cropped by an odd number
TEXTS = ["No pleural effusion.", "A small nodule in the left upper lobe", "no " * 60]
POOL = {"in_proj_weight": (3 * OUT, OUT), "in_proj_bias": (3 * OUT,)}
POOL |= {"out_proj.weight": (OUT, OUT), "out_proj.bias": (OUT,)}


@pytest.fixture(scope="module")
def weights():
    """Random weights in the published layout."""
    image = {f"backbone.{name}": shape for name, shape in layout(WIDTH, DEPTH).items()}
    image |= {"projector.weight": (30, WIDTH, 1, 1, 1), "projector.bias": (30,)}
    image |= {f"pooler.attn.{name}": tuple(30 * n // OUT for n in shape) for name, shape in POOL.items()}
    text = {f"backbone.{name}": shape for name, shape in bert_layout(pooler=False).items()}
    text |= {f"pooler.attn.{name}": shape for name, shape in POOL.items()}
    found = {f"image_encoder.{name}": value for name, value in random_weights(image).items()}
    found |= {f"text_encoder.{name}": value for name, value in random_weights(text, 1, std=0.4).items()}
    return found | {"softmax_temperature": torch.tensor(0.25)}


@pytest.fixture(scope="module")
def files(weights, tmp_path_factory):
    """File of the model, and folder of its text encoder's config and tokenizer."""
    folder = tmp_path_factory.mktemp("colipri")
    torch.save(weights, folder / "model.pt")
    return str(folder / "model.pt"), str(save_cxr_bert(folder / "text"))


def model_of(files, out_dims=30, **text):
    file, folder = files
    parts = dict(prefix="text_encoder.backbone.", head_prefix="text_encoder.pooler.", num_heads=HEADS)
    return PublishedVLM(
        tower=dict(type="ColipriTower", out_dims=out_dims, **SMALL),
        text_encoder=dict(
            type="PublishedTextEncoder", pretrained=folder, weights=file, pooling="attention", **(parts | text)
        ),
        pretrained=file,
        prefix="image_encoder.backbone.",
        head_prefix="image_encoder.",
        logit_scale=dict(key="softmax_temperature", stored="temperature"),
    )


def naive_pool(x_NE, weights, prefix, heads):
    """Attention of the mean over the tokens, head by head."""
    w = {name: weights[f"{prefix}.attn.{name}"].double() for name in POOL}
    (wq, wk, wv), (bq, bk, bv) = w["in_proj_weight"].chunk(3), w["in_proj_bias"].chunk(3)
    q, k, v = x_NE.mean(dim=0) @ wq.T + bq, x_NE @ wk.T + bk, x_NE @ wv.T + bv
    size, found = len(q) // heads, []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        found.append(torch.softmax(k[:, part] @ q[part] / size**0.5, dim=0) @ v[:, part])
    return torch.cat(found) @ w["out_proj.weight"].T + w["out_proj.bias"]


def by_torchio(hu_DHW):  # noqa: F811
    """The transforms of COLIPRI's processor on an LPS image."""
    tio = pytest.importorskip("torchio", reason="COLIPRI's processor uses TorchIO")
    affine = torch.diag(torch.tensor([-GIVEN[2], -GIVEN[1], GIVEN[0], 1.0])).numpy()
    image = tio.ScalarImage(tensor=hu_DHW.permute(2, 1, 0).flip(0, 1)[None], affine=affine)
    steps = [
        tio.ToOrientation("SAR"),
        tio.Resample(2),
        tio.Clamp(-1000, 1000),
        tio.RescaleIntensity((-1, 1), in_min_max=(-1000, 1000)),
        tio.CropOrPad(SMALL["img_size"], padding_mode=-1),
    ]
    return tio.Compose(steps)(image).data[0]


def test_volume_embedding_equals_a_naive_version_on_a_real_ct(weights, files, hu_DHW, record_property):  # noqa: F811
    below = {k.removeprefix("image_encoder.backbone."): v for k, v in weights.items() if "image_encoder.backbone." in k}
    tokens = naive(below, by_torchio(hu_DHW)).flatten(0, 2)
    projector = (weights[f"image_encoder.projector.{kind}"].double() for kind in ("weight", "bias"))
    kernel, bias = projector
    expected = naive_pool(tokens @ kernel.flatten(1).T + bias, weights, "image_encoder.pooler", SMALL["num_heads"])
    model = model_of(files)
    inputs = dict(volume=hu_DHW[None, None], spacing=torch.tensor([GIVEN]))
    model.text_encoder.embed_dims = 30  # of another width in this test only
    found = model(inputs)[0]
    record_property("relative difference", relative(found, expected))
    assert relative(found, expected) <= 1e-4
    assert relative(model(inputs | dict(volume=hu_DHW[None, None].flip(2)))[0], expected) > 0.01


def test_text_embeddings_equal_a_naive_version(weights, files, record_property):
    below = {k.removeprefix("text_encoder.backbone."): v for k, v in weights.items() if "text_encoder.backbone." in k}
    rows = [naive_pool(naive_bert(below, token_ids(text)), weights, "text_encoder.pooler", HEADS) for text in TEXTS]
    model, expected = model_of(files), torch.stack(rows)
    found = model.embed_texts(TEXTS)
    record_property("relative difference", relative(found, expected))
    assert relative(found, expected) <= 1e-4
    assert relative(found.roll(1, 0), expected) > 0.01
    assert model.logit_scale() == pytest.approx(4.0)


def test_other_files_are_one_message(files):
    with pytest.raises(CheckpointError, match=r"another shape \(projector\.weight .*model\.head_prefix"):
        model_of(files, out_dims=27)
    with pytest.raises(CheckpointError, match=r"prefix = 'text_pooler\.'; found .*Set text_encoder\.head_prefix"):
        model_of(files, head_prefix="text_pooler.")
    with pytest.raises(ValueError, match=r"text_encoder\.out_dims=8: expected None with pooling='attention'"):
        PublishedTextEncoder("x", pooling="attention", out_dims=8)
