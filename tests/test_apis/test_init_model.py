"""A checkpoint and its config are sufficient to reproduce predictions."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from mmengine.dataset import pseudo_collate

from ctvlm.apis import default_device, init_model
from ctvlm.engine import CheckpointError, ConfigError, load_config

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
    process = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr

    data = runner.build_dataloader(load_config(config).test_dataloader).dataset
    expected = runner.model.eval().test_step(pseudo_collate([data[0], data[1]]))
    for here, other in zip(expected, torch.load(out, weights_only=True), strict=True):
        assert {"pred_volume", "pred_regions", "pred_steps", "pred_step_attention"} <= set(other)
        for key, value in other.items():
            torch.testing.assert_close(torch.as_tensor(here.get(key)), torch.as_tensor(value), rtol=0, atol=0)


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


def test_missing_files_and_models(trained, tmp_path):
    with pytest.raises(ConfigError, match="none.py"):
        init_model(tmp_path / "none.py")
    with pytest.raises(CheckpointError, match="none.pth"):
        init_model(trained[0], tmp_path / "none.pth")
    (tmp_path / "empty.py").write_text("a = 1")
    with pytest.raises(ConfigError, match="empty.py.*'model'"):
        init_model(tmp_path / "empty.py")
