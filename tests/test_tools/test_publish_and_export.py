"""Publish a checkpoint, and export an encoder."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard

from ctvlm.apis import CTEncoder, init_model
from ctvlm.engine.checkpoint.model_card import model_card
from tests.released import SHAPE, small_config

PUBLISH, EXPORT = "model_converters/publish.py", "model_converters/export_encoder.py"


@pytest.fixture
def checkpoint(released_model, tmp_path):
    """The released model as a checkpoint of a run."""
    model = init_model(released_model, device="cpu")
    cfg = small_config()
    cfg.work_dir = str(tmp_path)
    meta = dict(cfg=cfg.pretty_text, training_data=model.training_data)
    torch.save(dict(state_dict=model.state_dict(), meta=meta, optimizer={}), tmp_path / "epoch_1.pth")
    return tmp_path / "epoch_1.pth"


def test_publish_a_checkpoint(tool, checkpoint, tmp_path):
    (tmp_path / "results.md").write_text("## Results\n\nDice of the liver: 0.8")
    out = tmp_path / "small|model"
    run = tool(PUBLISH, checkpoint, out, "--half", "--card", tmp_path / "results.md")
    assert run.code == 0, run.err
    assert "model.safetensors" in run.out
    card = ModelCard.load(out / "README.md")
    assert card.data.to_dict()["library_name"] == "ctvlm" and card.data.license == "apache-2.0"
    assert "Trained on phantoms only" in card.text and "not for clinical use" in card.text
    assert "Dice of the liver" in card.text and "generated reasoning steps" in card.text
    assert r"# small\|model" in card.text
    assert str(tmp_path) not in (out / "config.json").read_text() + card.content
    trained, published = torch.load(checkpoint, weights_only=True)["state_dict"], init_model(out, device="cpu")
    assert published.training_data[0]["dataset"] == "PhantomCT"
    for name, value in published.state_dict().items():
        torch.testing.assert_close(value, trained[name], rtol=1e-3, atol=1e-6)


def test_publish_without_a_license_or_a_config(tool, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["meta"].pop("training_data")
    torch.save(content, tmp_path / "unknown.pth")
    run = tool(PUBLISH, tmp_path / "unknown.pth", tmp_path / "out")
    assert run.code == 2 and "license is missing: the weights were trained on unknown" in run.err
    assert not (tmp_path / "out").exists()
    torch.save(dict(state_dict=content["state_dict"]), tmp_path / "bare.pth")
    run = tool(PUBLISH, tmp_path / "bare.pth", tmp_path / "out")
    assert run.code == 2 and "bare.pth contains no config (meta.cfg)" in run.err


def test_released_model_gives_the_metrics_of_its_checkpoint(tool, checkpoint, released_model, tmp_path):
    cfg = small_config()
    cfg.test_evaluator = [dict(type="RetrievalMetric")]
    cfg.dump(tmp_path / "small.py")
    results = []
    for name, weights in (("file", checkpoint), ("folder", released_model)):
        run = tool("test.py", tmp_path / "small.py", weights, "--work-dir", tmp_path / name)
        assert run.code == 0, run.err
        results.append(json.loads((tmp_path / name / "test_results.json").read_text())["metrics"])
    assert results[0] == results[1]
    run = tool("test.py", tmp_path / "small.py", tmp_path, "--work-dir", tmp_path / "third")
    assert run.code == 2 and f"{tmp_path} is not a released model" in run.err


def test_table_of_a_card_cannot_be_broken():
    records = [dict(dataset="a|b\nc", synthetic=False, cases=3, sources=["<script>"])]
    card = model_card("x", small_config(), records, "other")
    (line,) = [line for line in card.split("\n") if "a" in line and "b c" in line]
    assert line.startswith(r"| a\|b c |") and "| no |" in line and "<script>" not in card


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_export_an_encoder(tool, released_model, tmp_path, suffix):
    out = tmp_path / "new" / f"encoder.{suffix}"
    run = tool(EXPORT, released_model, out)
    assert run.code == 0, run.err
    assert f"volumes of {'×'.join(map(str, SHAPE))}" in run.out and "token_mask       0\n" in run.out
    assert out.stat().st_size > 50_000 and [path.name for path in out.parent.iterdir()] == [out.name]


def test_export_of_a_wrong_file(tool, released_model, tmp_path):
    run = tool(EXPORT, released_model, tmp_path / "encoder.pt")
    assert run.code == 2 and "found the suffix '.pt'; expected .pt2 or .onnx" in run.err
    run = tool(EXPORT, released_model, tmp_path / "encoder.pt2", "--shape", 15, 64, 64)
    assert run.code == 2 and "patch size" in run.err


def test_export_that_differs_is_removed(tool, released_model, tmp_path, monkeypatch):
    """As if the loaded program had other weights than the model."""
    other = CTEncoder(init_model(small_config(), device="cpu"))
    monkeypatch.setattr(torch.export, "export", lambda *args, **kwargs: None)
    monkeypatch.setattr(torch.export, "save", lambda program, out: out.write_bytes(b"program"))
    monkeypatch.setattr(torch.export, "load", lambda out: SimpleNamespace(module=lambda: other))
    run = tool(EXPORT, released_model, tmp_path / "encoder.pt2")
    assert run.code == 2 and "volume" in run.err and "exceeds --tolerance" in run.err
    assert not list(tmp_path.iterdir())
