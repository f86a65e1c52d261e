"""A checkpoint and its config are sufficient to reproduce predictions."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from ctvlm.apis import FeatureExtractor, default_device, init_model, list_models, shipped_models
from ctvlm.engine import CheckpointError, ConfigError, load_config
from ctvlm.engine.checkpoint.release import read_release, write_release
from ctvlm.registry import DATASETS

ELSEWHERE = """
import sys, torch
from mmengine.dataset import pseudo_collate
from ctvlm.apis import init_model
from ctvlm.registry import DATASETS

config, checkpoint, out = sys.argv[1:]
model = init_model(config, checkpoint, device="cpu")
data = DATASETS.build(model.cfg.test_dataloader.dataset)
samples = model.test_step(pseudo_collate([data[0], data[1]]))
torch.save([{key: sample.get(key) for key in sample.all_keys() if key.startswith("pred_")} for sample in samples], out)
"""


def test_predictions_are_reproduced_in_another_process(trained, tmp_path):
    config, checkpoint, runner = trained
    out = tmp_path / "predictions.pt"
    script = [sys.executable, "-c", ELSEWHERE, str(config), str(checkpoint), str(out)]
    process = subprocess.run(script, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr

    data = runner.build_dataloader(load_config(config).test_dataloader).dataset
    expected = runner.model.eval().test_step(pseudo_collate([data[0], data[1]]))
    for here, other in zip(expected, torch.load(out, weights_only=True), strict=True):
        assert {"pred_volume", "pred_regions", "pred_steps", "pred_step_attention"} <= set(other)
        for key, value in other.items():
            assert_equal(here.get(key), value)


def test_model_without_a_checkpoint(trained):
    model = init_model(load_config(trained[0]))
    assert not model.training and model.needs_tokenizer()
    assert next(model.parameters()).device.type == default_device().type
    assert model.cfg.model.type == "CoTContrastiveVLM"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("space.text_projection.layers.bias"), "text_projection.layers.bias"),
        (lambda w: w.update(other=torch.zeros(2)), r"\(other\)"),
        (lambda w: w.update({"space.region_score.bias": torch.zeros(3)}), r"region_score.bias .3,. instead of .1,."),
        (lambda w: w.pop("text_encoder.tokenizer_bytes"), "text_encoder.tokenizer_bytes"),
    ],
)
def test_other_weights_are_an_error(trained, tmp_path, change, message):
    checkpoint = torch.load(trained[1], weights_only=True)
    change(checkpoint["state_dict"])
    torch.save(checkpoint, tmp_path / "changed.pth")
    with pytest.raises(CheckpointError, match=message):
        init_model(trained[0], tmp_path / "changed.pth")


def assert_equal(one, other):
    """Bit-identical tensors and numbers, equal texts."""
    if isinstance(one, list) and one and isinstance(one[0], dict):
        assert one == other
    else:
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), rtol=0, atol=0)


def predictions(model):
    data = DATASETS.build(model.cfg.test_dataloader.dataset)
    samples = model.test_step(pseudo_collate([data[0], data[1]]))
    return [{key: sample.get(key) for key in sample.all_keys() if key.startswith("pred_")} for sample in samples]


@pytest.fixture(scope="module")
def released(trained, tmp_path_factory):
    """The checkpoint of ``trained`` as a released folder."""
    model = init_model(*trained[:2])
    folder = tmp_path_factory.mktemp("released") / "out"
    return write_release(folder, model.cfg, model.state_dict(), model.training_data)


def test_every_source_of_a_model_gives_the_same_predictions(trained, released):
    config, checkpoint, _ = trained
    expected = predictions(init_model(config, checkpoint, "cpu"))
    sources = [(checkpoint,), (None, checkpoint), (released,), (config, released), (None, released)]
    for source in sources:
        model = init_model(*source, device="cpu")
        assert model.training_data[0]["dataset"] == "PhantomCT"
        for one, other in zip(expected, predictions(model), strict=True):
            assert set(one) == set(other)
            for key, value in one.items():
                assert_equal(value, other[key])


def test_generated_steps_of_a_released_model(released_model):
    model = init_model(released_model, device="cpu")
    assert not model.needs_tokenizer() and all("pred_cot" in one for one in predictions(model))


def test_half_precision_is_close(trained, tmp_path):
    model = init_model(*trained[:2], "cpu")
    folder = write_release(tmp_path / "half", model.cfg, model.state_dict(), model.training_data, half=True)
    half = init_model(folder, device="cpu")
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    for one, other in zip(predictions(model), predictions(half), strict=True):
        torch.testing.assert_close(one["pred_volume"], other["pred_volume"], rtol=0, atol=5e-3)


def test_checkpoint_of_another_config(trained, released_model, repo_root):
    for checkpoint in (trained[1], released_model):
        with pytest.raises(CheckpointError, match="does not fit the model.*omit the config") as error:
            init_model(repo_root / "configs/vit3d_cot_contrastive.py", checkpoint)
        assert "\n" not in str(error.value)


def test_models_of_the_package(released_model, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped_models, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(CheckpointError, match="does not contain the model vit3d_phantom .models: none."):
        init_model()
    shutil.copytree(released_model, tmp_path / "vit3d_phantom")
    shutil.copytree(released_model, tmp_path / "other")
    other, default = list_models()
    assert (other.name, default.name) == ("other", "vit3d_phantom")
    assert default.training_data[0]["synthetic"] and "regions" in default.tasks and default.parameters > 50_000
    assert "generated reasoning steps" in default.description
    assert init_model(device="cpu").cfg.filename == str(tmp_path / "vit3d_phantom/config.json")
    assert init_model("other", device="cpu").cfg.filename == str(tmp_path / "other/config.json")
    with pytest.raises(ConfigError, match="model not found: vit3d is no file.*models: other, vit3d_phantom"):
        init_model("vit3d")
    with pytest.raises(CheckpointError, match="found two checkpoints"):
        init_model("other", released_model)


def test_components_that_are_not_registered(released_model, tmp_path):
    release = read_release(released_model)
    cfg = Config(release.config.to_dict())
    cfg.merge_from_dict({"model.backbone.type": "MyEncoder", "custom_imports": dict(imports=["projects.mine"])})
    folder = write_release(tmp_path / "out", cfg, release.state_dict, [])
    with pytest.raises(CheckpointError, match="model.backbone.type.*MyEncoder.*import projects.mine"):
        init_model(folder)


ATTACKS = {
    "model": {"model": dict(type="subprocess.check_call", args=["touch", "MARKER"])},
    "part": {"model.backbone.type": "os.system"},
    "module": {"model.text_encoder.type": "antigravity"},
    "pipeline": {"test_dataloader.dataset.pipeline": [dict(type="subprocess.check_call", args=["touch", "MARKER"])]},
    "scope": {"model.backbone._scope_": "os"},
    "remote code": {"model.text_encoder.trust_remote_code": True},
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("form", ["folder", "checkpoint"])
def test_no_config_of_a_file_runs_code(released_model, tmp_path, monkeypatch, attack, form):
    monkeypatch.chdir(tmp_path)
    release = read_release(released_model)
    values = release.config.to_dict()
    if "model" in attack:
        values["model"] = attack["model"]
    cfg = Config(values)
    cfg.merge_from_dict({key: value for key, value in attack.items() if key != "model"})
    source = tmp_path / "out"
    if form == "folder":
        write_release(source, cfg, release.state_dict, [])
    else:
        source = tmp_path / "out.pth"
        text = "\n".join(f"{key} = {value!r}" for key, value in cfg.to_dict().items())
        torch.save(dict(state_dict=release.state_dict, meta=dict(cfg=text)), source)
    with pytest.raises(CheckpointError, match="the config in .*out"):
        FeatureExtractor(source, device="cpu")
    assert not (tmp_path / "MARKER").exists() and "antigravity" not in sys.modules


def test_missing_files_and_models(trained, tmp_path):
    with pytest.raises(ConfigError, match="none.py"):
        init_model(tmp_path / "none.py")
    with pytest.raises(CheckpointError, match="none.pth"):
        init_model(trained[0], tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="is not a released model: it has no config.json"):
        init_model(trained[0], tmp_path)
    (tmp_path / "empty.py").write_text("a = 1")
    with pytest.raises(ConfigError, match="empty.py.*'model'"):
        init_model(tmp_path / "empty.py")
