"""ctvlm view writes one page; PageBuilder gives what the model can produce."""

from __future__ import annotations

import json
import re

import pytest

from ctvlm.apis import init_model
from ctvlm.apis.page_builder import PageBuilder
from ctvlm.engine.cli.errors import user_message
from ctvlm.utils import CTVLMError

pytest.importorskip("ipyniivue", reason="the viewer needs ipyniivue: pip install 'ctvlm[viewer]'")


@pytest.fixture(scope="module")
def model(released_model):
    return init_model(released_model, device="cpu")


@pytest.fixture
def ct(phantoms):
    return phantoms / "p0" / "ct.nii.gz"


def content(page: str) -> dict:
    return json.loads(re.search(r'id="page-content">(.*?)</script>', page, re.S)[1])


def test_page_of_given_texts(ctvlm, released_model, ct, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = ["The liver is normal.", "Small effusion <b>."]
    given = [word for text in texts for word in ("--text", text)]
    done = ctvlm("view", ct, "--model", released_model, "--device", "cpu", *given, "-o", "page.html")
    assert done.code == 0 and "page.html" in done.out
    page = content((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [step["text"] for step in page["steps"]] == texts
    assert page["steps"][0]["regions"][0]["name"] == "liver"
    assert len(page["findings"]) == 18 and page["regionOrigin"] == "predicted"
    assert "<b>" not in (tmp_path / "page.html").read_text(encoding="utf-8").split('id="page-content"')[1][:20000]


@pytest.mark.parametrize("wrong", [("-o", "page.png"), ("--serve", "-o", "page.html"), ("--device", "nowhere")])
def test_wrong_arguments_write_nothing(ctvlm, released_model, ct, tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    done = ctvlm("view", ct, "--model", released_model, *wrong)
    assert done.code == 2 and wrong[-1] in done.err and not list(tmp_path.iterdir())


def test_attention_of_texts_is_that_of_the_feature_extractor(model, ct):
    from ctvlm.apis import FeatureExtractor

    text = "The liver is normal."
    step = PageBuilder(model, texts=[text])(ct).steps[0]
    extract = FeatureExtractor(model)
    features = extract(ct)
    attention_N = extract.similarity(features, [text]).attention[0]
    expected = features.on_grid(attention_N * int(features.patch_mask.sum()))
    assert abs(step.attention.array - expected.array).max() < 1e-4
    assert (step.attention.affine == expected.affine).all()


def test_model_without_a_text_head_gives_a_page_without_steps(model, ct, monkeypatch):
    generation = model.objectives["generation"]
    monkeypatch.delitem(model.objectives._modules, "generation")
    page = PageBuilder(model)(ct)
    assert list(page.steps) == [] and page.regions is not None
    monkeypatch.setitem(model.objectives._modules, "generation", generation)
    assert PageBuilder(model).__dict__["_reason"] is not None


def test_other_errors_of_an_inferencer_are_not_hidden(model, monkeypatch):
    def broken(*args, **kwargs):
        raise CTVLMError("damaged scheme")

    monkeypatch.setattr("ctvlm.apis.page_builder.RegionSegmenter", broken)
    with pytest.raises(CTVLMError) as error:
        PageBuilder(model)
    assert user_message(error.value) == "damaged scheme"
