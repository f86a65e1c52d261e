import io
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import AutoModel, AutoModelForTextEncoding, AutoTokenizer

from ctvlm.models.text_encoders import HFTextEncoder
from ctvlm.registry import TEXT_ENCODERS
from ctvlm.utils import CTVLMError
from ctvlm.utils.pretrained_files import use_pretrained_files
from tests.test_models import text_checkpoints as saved

LONG = "The left lung is normal. Small nodule in the right upper lobe; no pleural effusion! " * 4
TEXTS = ["No pleural effusion.", "Small nodule in the right upper lobe.", "", "the liver"]
FAMILIES = {
    "bert": (saved.save_bert, {}),
    "roberta": (saved.save_roberta, {}),
    "gpt2": (saved.save_gpt2, dict(pooling="last")),
    "t5": (saved.save_t5, {}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pretrained")
    return {name: str(save(root / name)) for name, (save, _) in FAMILIES.items()}


@pytest.fixture(params=FAMILIES)
def family(request, folders):
    """A folder, and the arguments that suit its model."""
    return dict(pretrained=folders[request.param], **FAMILIES[request.param][1])


def build(pretrained, **kwargs):
    torch.manual_seed(0)
    return TEXT_ENCODERS.build(dict(type="HFTextEncoder", pretrained=pretrained, **kwargs))


def move_weights(encoder, scale=0.05):
    """As training would: what may move is moved (LoRA's second matrix starts at zero)."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter += scale * torch.randn(parameter.shape, generator=generator)
    return encoder


def naive(folder, text, pooling, auto=AutoModel):
    """One text, by transformers alone, without padding."""
    model, tokenizer = auto.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        hidden_TE = model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0]
    return {"cls": hidden_TE[0], "last": hidden_TE[-1], "mean": hidden_TE.mean(dim=0)}[pooling]


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_pooling_equals_transformers_one_text_at_a_time(folders, pooling):
    together = build(folders["bert"], pooling=pooling).eval()(TEXTS)
    for row, text in zip(together, TEXTS):
        torch.testing.assert_close(row, naive(folders["bert"], text, pooling), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "roberta", "t5"])
def test_other_families_equal_transformers_one_text_at_a_time(folders, name):
    """Among them one whose tokenizer pads on the left, one that counts positions by padding ids, none with types."""
    auto = AutoModelForTextEncoding if name == "t5" else AutoModel
    pooling = FAMILIES[name][1].get("pooling", "mean")
    together = build(folders[name], pooling=pooling).eval()(TEXTS)
    for row, text in zip(together, TEXTS):
        torch.testing.assert_close(row, naive(folders[name], text, pooling, auto), rtol=1e-4, atol=1e-5)


def test_embedding_depends_on_neither_batch_nor_order(family):
    encoder = build(**family, bucket_size=3).eval()
    texts = [*TEXTS, LONG, "lung " * 50]
    together, backwards = encoder(texts), encoder(texts[::-1])
    torch.testing.assert_close(together, backwards.flip(0), rtol=1e-4, atol=1e-5)
    for row, text in zip(together, texts):
        torch.testing.assert_close(encoder([text])[0], row, rtol=1e-4, atol=1e-5)


def test_length_is_what_the_model_takes(folders):
    assert build(folders["bert"]).max_length == 40
    roberta = build(folders["roberta"])
    assert roberta.max_length == 28  # 30 embeddings, positions from behind the padding index 1
    assert torch.isfinite(roberta(["lung " * 100])).all()  # sections of full length
    assert build(folders["bert"], max_length=16).max_length == 16
    with pytest.raises(ValueError, match="max_length=41.*4 to 40"):
        build(folders["bert"], max_length=41)


def test_long_text_is_the_mean_of_its_sections(folders):
    encoder = build(folders["bert"], max_length=16).eval()
    sentences = [
        "the left lung is normal.",
        "small nodule in the right upper lobe.",
        "no pleural effusion in the lung.",
    ]
    lengths = torch.tensor([len(ids) for ids in encoder.tokenize(sentences)], dtype=torch.float32)
    assert lengths.sum() > 14 and lengths[:2].sum() <= 14 and lengths[1:].sum() > 14
    joined = encoder([" ".join(sentences)])[0]
    parts = encoder([" ".join(sentences[:2]), sentences[2]])
    weights = torch.stack([lengths[:2].sum(), lengths[2]])
    torch.testing.assert_close(joined, (parts * weights[:, None]).sum(dim=0) / weights.sum(), rtol=1e-4, atol=1e-5)


def test_text_that_says_more_at_its_end_has_another_embedding(family):
    encoder = build(**family).eval()
    short, long = encoder([LONG, LONG + " liver"])
    assert len(encoder.tokenize([LONG])[0]) > encoder.max_length or encoder.max_length == 512
    assert (short - long).abs().max() > 1e-4


def trainable(encoder):
    return {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def test_exactly_the_expected_parameters_train(folders):
    everything = {name for name, _ in build(folders["bert"]).named_parameters()}
    assert trainable(build(folders["bert"])) == set()
    assert trainable(build(folders["bert"], train="full")) == everything
    top = trainable(build(folders["bert"], train="top", top_layers=1))
    assert top == {name for name in everything if name.startswith("model.encoder.layer.3.")}
    norm = {"model.ln_f.weight", "model.ln_f.bias"}
    gpt2 = trainable(build(folders["gpt2"], train="top", top_layers=1, pooling="last"))
    assert norm < gpt2 and all(name.startswith("model.h.1.") for name in gpt2 - norm)
    lora = build(folders["bert"], train="lora", lora=dict(r=4))
    assert trainable(lora) == {name for name, _ in lora.named_parameters() if ".lora_" in name}
    # Six linear layers in each of four blocks, rank 4.
    sizes = 4 * sum(4 * (a + b) for a, b in [(32, 32)] * 4 + [(32, 48), (48, 32)])
    assert sum(p.numel() for p in lora.parameters() if p.requires_grad) == sizes


@pytest.mark.parametrize("train", ["top", "lora", "full"])
def test_what_trains_gets_gradients_and_nothing_else_does(family, train):
    encoder = move_weights(build(**family, train=train)).train()
    (encoder([*TEXTS, LONG]) * torch.randn(encoder.embed_dims)).sum().backward()
    with_gradient = {name for name, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert with_gradient == trainable(encoder)


def test_frozen_has_neither_dropout_nor_gradients(folders):
    encoder = build(folders["bert"]).train()
    assert torch.equal(encoder(TEXTS), encoder(TEXTS))
    assert not encoder(TEXTS).requires_grad
    full = build(folders["bert"], train="full").train()
    assert not torch.equal(full(TEXTS), full(TEXTS))
    torch.testing.assert_close(full.eval()(TEXTS), encoder(TEXTS))
    # Dropout only where weights train: with the last layers alone, what enters them is the same each time.
    top = build(folders["bert"], train="top", top_layers=1).train()
    assert [layer.training for layer in top.model.encoder.layer] == [False, False, False, True]


def test_refuses_options_that_do_not_fit(folders):
    with pytest.raises(ValueError, match="train='half'.*frozen, top, lora, full"):
        build(folders["bert"], train="half")
    with pytest.raises(ValueError, match="pooling='max'"):
        build(folders["bert"], pooling="max")
    with pytest.raises(ValueError, match="top_layers=9.* 4"):
        build(folders["bert"], train="top", top_layers=9)
    with pytest.raises(ValueError, match="pooling='cls'"):
        build(folders["gpt2"], pooling="cls")
    with pytest.raises(ValueError, match="cache_dir.*train='frozen'"):
        build(folders["bert"], train="top", cache_dir="cache")


def test_lora_without_peft_says_what_to_install(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(CTVLMError, match=r"ctvlm\[lora\]"):
        build(folders["bert"], train="lora")


@pytest.mark.parametrize("train", ["frozen", "top", "lora", "full"])
def test_state_dict_alone_restores_the_encoder(tmp_path, family, train):
    """The folder is gone, as on another machine."""
    folder = shutil.copytree(family["pretrained"], tmp_path / "gone")
    arguments = family | dict(pretrained=str(folder), train=train)
    encoder = move_weights(build(**arguments)).eval()
    expected = encoder([*TEXTS, LONG])
    file = io.BytesIO()
    torch.save(encoder.state_dict(), file)
    shutil.rmtree(folder)
    with pytest.raises(CTVLMError, match="gone"):
        build(**arguments)

    file.seek(0)
    state = torch.load(file, weights_only=True)
    with use_pretrained_files(state):
        restored = build(**arguments)
    restored.load_state_dict(state)
    assert torch.equal(restored.eval()([*TEXTS, LONG]), expected)
    assert trainable(restored) == trainable(encoder)


def test_another_process_gives_the_same_numbers(tmp_path, folders):
    folder = shutil.copytree(folders["bert"], tmp_path / "gone")
    encoder = move_weights(build(str(folder), train="top")).eval()
    expected = encoder([*TEXTS, LONG])
    torch.save(encoder.state_dict(), tmp_path / "state.pth")
    shutil.rmtree(folder)
    program = f"""
import torch
from ctvlm.registry import TEXT_ENCODERS
from ctvlm.utils.pretrained_files import use_pretrained_files
state = torch.load({str(tmp_path / "state.pth")!r}, weights_only=True)
with use_pretrained_files(state):
    encoder = TEXT_ENCODERS.build(dict(type="HFTextEncoder", pretrained={str(folder)!r}, train="top"))
encoder.load_state_dict(state)
torch.save(encoder.eval()({[*TEXTS, LONG]!r}), {str(tmp_path / "out.pth")!r})
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert torch.equal(torch.load(tmp_path / "out.pth", weights_only=True), expected)


def test_loading_takes_over_the_tokenizer(folders):
    """Also into an encoder that was built with another one."""
    encoder = build(folders["bert"]).eval()
    other = build(folders["bert"], tokenizer=dict(do_lower_case=False)).eval()
    assert not torch.equal(other(["LIVER"]), encoder(["LIVER"]))
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(["LIVER"]), encoder(["LIVER"]))


@pytest.mark.parametrize("train", ["top", "lora", "full"])
def test_transformers_reads_what_is_exported(tmp_path, folders, train):
    encoder = move_weights(build(folders["bert"], train=train)).eval()
    before = encoder(TEXTS)
    encoder.export_pretrained(tmp_path)
    assert torch.equal(encoder(TEXTS), before)  # merging LoRA's weights left the encoder alone
    for row, text in zip(before, TEXTS):
        torch.testing.assert_close(naive(tmp_path, text, "mean"), row, rtol=1e-4, atol=1e-5)
    again = build(str(tmp_path)).eval()(TEXTS)
    torch.testing.assert_close(again, before, rtol=1e-4, atol=1e-5)
    assert (before - build(folders["bert"]).eval()(TEXTS)).abs().max() > 1e-2


def test_t5_exports_its_encoder(tmp_path, folders):
    build(folders["t5"]).export_pretrained(tmp_path)
    assert torch.equal(build(str(tmp_path))(TEXTS), build(folders["t5"])(TEXTS))


def test_bfloat16_autocast_gives_finite_numbers_close_to_float32(family):
    encoder = build(**family).eval()
    full = encoder(TEXTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder(TEXTS)
    assert (full - half).abs().max() <= 0.1 * full.abs().max()


def test_stored_files_say_nothing_of_where_they_came_from(tmp_path, folders):
    other = shutil.copytree(folders["bert"], tmp_path / "elsewhere")
    state, moved = (HFTextEncoder(str(path)).pretrained_files for path in (folders["bert"], other))
    from ctvlm.utils.pretrained_files import unpack_files

    assert unpack_files(state)[1] == unpack_files(moved)[1]
    assert not any(b"elsewhere" in content for content in unpack_files(moved)[1].values())
