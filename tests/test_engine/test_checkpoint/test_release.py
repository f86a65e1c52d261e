"""Released folders: what they contain, and what reading says about a damaged one."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import load_file

from ctvlm.engine import CheckpointError
from ctvlm.engine.checkpoint.config_text import checkpoint_config, parse_config_text
from ctvlm.engine.checkpoint.portable_config import file_name, portable_config
from ctvlm.engine.checkpoint.release import read_release, read_release_info, write_release
from ctvlm.utils.pretrained_files import pack_files, unpack_files

MODEL = dict(type="CoTContrastiveVLM", losses=dict(volume=dict(type="CrossModalContrastiveLoss")))


def release(folder, weights=None, half=False, **config):
    weights = {"backbone.a": torch.tensor([1.0, 1 / 3])} if weights is None else weights
    return write_release(folder, Config(dict(model=MODEL, **config)), weights, [], half)


@pytest.fixture
def copy(released_model, tmp_path):
    return shutil.copytree(released_model, tmp_path / "copy")


def test_files_of_a_release(released_model):
    names = {path.name for path in released_model.iterdir()}
    tokenizers = {"tokenizer.json", "tokenizer_generation.json"}
    assert names == {"model.safetensors", "config.json", "region_scheme.json", *tokenizers}
    info = read_release_info(released_model)
    assert info["tasks"] == ["features", "zero-shot", "step-attention", "regions", "reasoning"]
    assert info["precision"] == "float32" and info["training_data"][0]["dataset"] == "PhantomCT"
    assert not [key for key in load_file(released_model / "model.safetensors") if "tokenizer" in key]


def test_weights_return_in_full_precision(tmp_path):
    weights = {"a": torch.tensor([1.0, 1 / 3]), "n": torch.tensor([70_000]), "b": torch.arange(3, dtype=torch.uint8)}
    full = read_release(release(tmp_path / "full", weights)).state_dict
    assert all(torch.equal(full[key], weights[key]) for key in weights)
    half = read_release(release(tmp_path / "half", weights, half=True)).state_dict
    assert half["a"].dtype == torch.float32 and half["a"][1] == torch.tensor(1 / 3).half().float()
    assert torch.equal(half["n"], weights["n"]) and torch.equal(half["b"], weights["b"])
    with pytest.raises(CheckpointError, match="a: found values up to 7e.04.*65,504"):
        release(tmp_path / "large", {"a": torch.tensor([70_000.0])}, half=True)


def test_weights_that_are_not_finite_are_not_loaded(tmp_path):
    folder = release(tmp_path / "out", {"a": torch.tensor([1.0, float("nan")])})
    with pytest.raises(CheckpointError, match=r"model\.safetensors: 1 weights contain NaN or infinity, such as a"):
        read_release(folder)


def test_config_contains_nothing_of_the_machine(tmp_path):
    cfg = Config(
        dict(
            model=MODEL | dict(text_encoder=dict(type="HFTextEncoder", pretrained="/home/me/models/biobert")),
            work_dir="/home/me/run",
            load_from="/home/me/epoch_1.pth",
            train_dataloader=dict(dataset=dict(ann_file="/data/ct/manifest.jsonl", data_prefix="C:\\ct\\train")),
            val_dataloader=dict(dataset=dict(ann_file="data/ct/manifest.jsonl", shape=(1, 2))),
        )
    )
    content, scheme = portable_config(cfg)
    assert "/home" not in json.dumps(content) and not {"work_dir", "load_from"} & set(content)
    assert content["model"]["text_encoder"]["pretrained"] == "biobert"
    assert content["train_dataloader"]["dataset"] == dict(ann_file="manifest.jsonl", data_prefix="train")
    assert content["val_dataloader"]["dataset"] == dict(ann_file="data/ct/manifest.jsonl", shape=[1, 2])
    assert scheme.name == "thorax_abdomen_20"


def test_source_of_a_pretrained_part_is_not_a_path(tmp_path):
    packed = pack_files("/home/me/models/biobert", {"config.json": b"{}"})
    loaded = read_release(release(tmp_path / "out", {"text_encoder.pretrained_files": packed})).state_dict
    assert unpack_files(loaded["text_encoder.pretrained_files"]) == ("biobert", {"config.json": b"{}"})


@pytest.mark.parametrize("path", ["data/ct/x.json", "~ 5 mm", "/", "a: b", "sphere/ellipse", ""])
def test_other_text_is_no_path(path):
    assert file_name(path) == path


def test_own_region_scheme_is_released(tmp_path, repo_root):
    raw = json.loads((repo_root / "ctvlm/anatomy/data/thorax_abdomen_20.json").read_text())
    own = tmp_path / "mine.json"
    own.write_text(json.dumps(raw | dict(name="mine")))
    dataset = dict(type="ManifestCT", scheme=str(own))
    folder = release(tmp_path / "out", test_dataloader=dict(dataset=dataset))
    own.unlink()
    config = read_release(shutil.move(folder, tmp_path / "moved")).config
    assert config.test_dataloader.dataset.scheme == str(tmp_path / "moved/region_scheme.json")


def test_default_scheme_is_that_of_the_package(tmp_path):
    folder = release(tmp_path / "out", test_dataloader=dict(dataset=dict(scheme="thorax_abdomen_20")))
    assert read_release(folder).config.test_dataloader.dataset.scheme == "thorax_abdomen_20"


def test_values_that_json_cannot_hold(tmp_path):
    with pytest.raises(CheckpointError, match="param.low: found inf"):
        release(tmp_path / "out", param=dict(low=float("inf")))
    assert not (tmp_path / "out").exists()


def damage(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "copy is incomplete: model.safetensors is missing"),
        (lambda f: (f / "tokenizer.json").unlink(), "incomplete: tokenizer.json is missing"),
        (lambda f: damage(f / "model.safetensors"), "model.safetensors is damaged .*found sha256 .*, expected"),
        (lambda f: damage(f / "region_scheme.json"), "region_scheme.json is damaged"),
        (lambda f: (f / "config.json").unlink(), "is not a released model: it has no config.json .found"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "bert"}'),
            "not the config of a released ctvlm model",
        ),
        (lambda f: change_info(f, format=2), "found format 2, written by ctvlm 0.1.0; ctvlm .* reads format 1"),
        (lambda f: change_info(f, sha256={"../x": "0"}), "sha256 has no model.safetensors"),
        (lambda f: change_info(f, tokenizers={"../x": "a"}), "sha256 has no ../x"),
    ],
)
def test_damaged_folders(copy, change, message):
    change(copy)
    with pytest.raises(CheckpointError, match=message):
        read_release(copy)


def change_info(folder, **values):
    info = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(info | values))


def test_files_outside_the_folder_are_not_read(copy):
    digests = read_release_info(copy)["sha256"] | {"../small/config.json": "0"}
    change_info(copy, sha256=digests)
    with pytest.raises(CheckpointError, match="expected a name without a folder"):
        read_release(copy)


def test_weights_of_another_format(copy):
    (copy / "model.safetensors").write_bytes(b"weights")
    digests = read_release_info(copy)["sha256"] | {"model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    change_info(copy, sha256=digests)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        read_release(copy)


def test_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match="none is not a folder"):
        read_release(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file; expected a folder"):
        release(tmp_path / "file")


def test_a_second_release_replaces_the_first(copy):
    release(copy)
    assert {path.name for path in copy.iterdir()} == {"model.safetensors", "config.json", "region_scheme.json"}
    assert set(read_release(copy).state_dict) == {"backbone.a"}


def test_config_text_is_parsed_and_not_executed():
    cfg = Config(dict(a=(1, -2.5), b=dict(c=[None, True], **{"x-y": float("inf")}), d="é'\"", e=dict(type="F")))
    assert parse_config_text(cfg.pretty_text) == cfg.to_dict()
    for text in (
        "import os",
        "a = open('x')",
        "a = dict(**b)",
        "a = b",
        "a.b = 1",
        "f(1)",
        "a = [x for x in (1,)]",
        f"a = 0x{'f' * 5000}",
    ):
        with pytest.raises(ValueError, match="line 1: found"):
            parse_config_text(text)


def test_checkpoint_without_a_plain_config():
    with pytest.raises(CheckpointError, match="x.pth contains no config"):
        checkpoint_config(dict(state_dict={}), "x.pth")
    with pytest.raises(CheckpointError, match="x.pth .meta.cfg. is not plain data: line 1: found .open"):
        checkpoint_config(dict(meta=dict(cfg="a = open('x')")), "x.pth")
