import json

import pytest
import torch
from transformers import BertModel, BertTokenizer

from ctvlm.models.text_encoders.checkpoint_formats import Source, read_tower
from ctvlm.registry import TEXT_ENCODERS
from ctvlm.utils import CTVLMError
from ctvlm.utils.pretrained_files import use_pretrained_files
from tests.test_models import text_checkpoints as saved

TEXTS = ["No pleural effusion.", "small nodule in the right upper lobe"]


def build(pretrained, **kwargs):
    return TEXT_ENCODERS.build(dict(type="HFTextEncoder", pretrained=str(pretrained), **kwargs)).eval()


def hidden_states(model, folder, text, **tokenizer):
    ids = BertTokenizer.from_pretrained(folder, **tokenizer)(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model.eval()(input_ids=ids).last_hidden_state[0]


def bert_of(folder, file, prefix, **config):
    """The BERT in a checkpoint, put together by hand."""
    model = BertModel(saved.bert_config(**config), add_pooling_layer=False)
    weights = torch.load(folder / file, weights_only=True)
    renamed = {key.replace("gamma", "weight").replace("beta", "bias"): value for key, value in weights.items()}
    kept = {key.removeprefix(prefix): value for key, value in renamed.items() if key.startswith(prefix)}
    model.load_state_dict({key: value for key, value in kept.items() if "position_ids" not in key})
    return model, weights


def test_biobert_keeps_its_case(tmp_path):
    """A pretraining checkpoint in an old format, cased, without a word of that beside its vocabulary."""
    folder = saved.save_biobert(tmp_path)
    encoder = build(folder, tokenizer=dict(do_lower_case=False))
    model, _ = bert_of(folder, "pytorch_model.bin", "bert.", cased=True)
    for row, text in zip(encoder(TEXTS), TEXTS):
        hidden_TE = hidden_states(model, folder, text, do_lower_case=False)
        torch.testing.assert_close(row, hidden_TE.mean(dim=0), rtol=1e-4, atol=1e-5)
    assert (encoder(["No"]) - encoder(["no"])).abs().max() > 1e-3
    with use_pretrained_files(encoder.state_dict()):
        restored = build(folder)  # the option travels with the tokenizer
    assert restored.tokenize(["No"]) == encoder.tokenize(["No"]) != encoder.tokenize(["no"])


def test_cxr_bert_is_read_without_running_its_code(tmp_path):
    folder = saved.save_cxr_bert(tmp_path)
    model, weights = bert_of(folder, "pytorch_model.bin", "bert.")
    head = saved.CXRHead(saved.WIDTH, 12)
    prefix = "cls_projection_head."
    head.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    plain, projected = build(folder, pooling="cls"), build(folder, pooling="cls", projection=True)
    assert (plain.embed_dims, projected.embed_dims) == (saved.WIDTH, 12)
    for i, text in enumerate(TEXTS):
        first_E = hidden_states(model, folder, text)[0]
        torch.testing.assert_close(plain(TEXTS)[i], first_E, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(projected(TEXTS)[i], head(first_E).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("safetensors", [False, True])
def test_biomedclip_equals_open_clip(tmp_path, safetensors):
    hf_model = pytest.importorskip("open_clip.hf_model")
    folder = saved.save_open_clip(tmp_path, safetensors)
    encoder = build(folder, pooling="cls", projection=True)
    assert (encoder.max_length, encoder.embed_dims) == (24, 16)
    # open_clip builds its tower from a folder of transformers' own.
    BertModel(saved.bert_config()).save_pretrained(tmp_path / "bert")
    tower = hf_model.HFTextEncoder(
        str(tmp_path / "bert"), 16, pooler_type="cls_last_hidden_state_pooler", proj_type="mlp", pretrained=False
    )
    saved.save_open_clip(tmp_path / "again")
    weights = torch.load(tmp_path / "again" / "open_clip_pytorch_model.bin", weights_only=True)
    text = {key.removeprefix("text."): value for key, value in weights.items() if key.startswith("text.")}
    tower.load_state_dict(text, strict=False)
    ids = BertTokenizer.from_pretrained(folder)(TEXTS, return_tensors="pt", padding="max_length", max_length=24)
    with torch.no_grad():
        torch.testing.assert_close(encoder(TEXTS), tower.eval()(ids["input_ids"]), rtol=1e-4, atol=1e-5)


def test_report_says_what_was_used(tmp_path):
    count = len(BertModel(saved.bert_config(), add_pooling_layer=False).state_dict())
    for save, unused in (
        (saved.save_cxr_bert, "cls 7, cls_projection_head 6"),
        (saved.save_open_clip, "logit_scale 1, visual 1"),
        (saved.save_bert, "pooler.dense 2"),
    ):
        folder = save(tmp_path / save.__name__)
        report = read_tower(Source(str(folder)), "cls", with_projection=False).report
        assert report == f"{folder}: all {count} weights of BertModel found; not used: {unused}"


def test_missing_weights_are_never_left_random(tmp_path):
    folder = saved.save_cxr_bert(tmp_path)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del weights["bert.encoder.layer.1.output.dense.weight"]
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(CTVLMError, match=r"BertModel.*encoder.layer.1.output.dense.weight"):
        build(folder)


def test_projection_is_refused_behind_other_pooling_and_where_there_is_none(tmp_path):
    for save in (saved.save_cxr_bert, saved.save_open_clip):
        folder = save(tmp_path / save.__name__)
        with pytest.raises(CTVLMError, match="'cls'.*text_encoder.pooling='mean'"):
            build(folder, pooling="mean", projection=True)
    with pytest.raises(CTVLMError, match="text_encoder.projection=False"):
        build(saved.save_bert(tmp_path / "bert"), pooling="cls", projection=True)
    folder = saved.save_open_clip(tmp_path / "pooler", hf_pooler_type="cls_pooler")
    with pytest.raises(CTVLMError, match="'cls_pooler'"):
        build(folder, pooling="cls", projection=True)


def test_what_cannot_be_loaded_is_named_with_what_to_do(tmp_path):
    with pytest.raises(CTVLMError, match=r"'dmis-lab/biobert-v1.1'.*HF_HUB_OFFLINE.*hf download"):
        build("dmis-lab/biobert-v1.1")
    with pytest.raises(CTVLMError, match=r"nowhere'"):
        build(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CTVLMError, match=r"empty'.*model_type.*config.json"):
        build(tmp_path / "empty")
    folder = saved.save_bert(tmp_path / "cut")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(CTVLMError, match="cut'"):
        build(folder)


def test_unknown_code_is_not_run_unless_asked_for(tmp_path):
    folder = saved.save_cxr_bert(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "someones-bert"}))
    with pytest.raises(CTVLMError, match="'someones-bert'.*trust_remote_code=True"):
        build(folder)
    with pytest.raises(Exception, match="code of the repository was run"):
        build(folder, trust_remote_code=True)


def test_models_and_tokenizers_that_do_not_fit_are_refused(tmp_path):
    folder = saved.save_bert(tmp_path / "wordless")
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in saved.SPECIAL))
    with pytest.raises(CTVLMError, match="Tokenizer"):
        build(folder)
    (folder / "vocab.txt").write_text("".join(f"{w}\n" for w in [*saved.vocabulary(), *"more words than rows".split()]))
    with pytest.raises(CTVLMError, match=r"\d+ pieces.* \d+ embeddings"):
        build(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(CTVLMError, match="clip"):
        build(folder)
    folder = saved.save_open_clip(tmp_path / "plain", hf_model_name=None)
    with pytest.raises(CTVLMError, match="hf_model_name"):
        build(folder)


def test_open_clip_folder_without_the_architecture_names_what_is_missing(tmp_path):
    folder = saved.save_open_clip(tmp_path)
    (folder / "config.json").unlink()
    with pytest.raises(CTVLMError, match="config.json.*'nobody/pubmedbert'"):
        build(folder, pooling="cls")


@pytest.mark.parametrize("name", saved.PUBLISHED)
def test_hub_id_is_found_among_downloads_without_network(tmp_path, monkeypatch, name):
    """As ``hf download`` leaves it: files by commit, and nothing about the files that a repository lacks."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / f"models--{name.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    saved.PUBLISHED[name](repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert torch.isfinite(build(name, pooling="cls")(TEXTS)).all()
    assert torch.equal(build(name, pooling="cls", revision=commit)(TEXTS), build(name, pooling="cls")(TEXTS))
    with pytest.raises(CTVLMError, match="cannot be loaded"):
        build(name, pooling="cls", revision="v9")
