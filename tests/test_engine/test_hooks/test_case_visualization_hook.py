"""Pictures and texts of a validation case in TensorBoard; training does not depend on them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ctvlm.engine import CaseVisualizationHook, CTVLMRunner, load_config
from ctvlm.engine.hooks.case_visualization_hook import markdown_table, sample_texts
from ctvlm.structures import CoTStep, CTDataSample

SMALL = {
    "model.backbone.depth": 1, "model.backbone.region_layer": 0, "model.backbone.embed_dims": 32,
    "model.text_encoder.embed_dims": 32, "model.text_encoder.depth": 1, "model.text_encoder.dropout": 0.2,
    "train_dataloader.dataset.num_cases": 4, "train_dataloader.batch_size": 2, "val_dataloader.dataset.num_cases": 2,
    "train_cfg.max_epochs": 2, "train_cfg.val_interval": 1, "default_hooks.logger.interval": 1,
    "default_hooks.epoch_seed.type": "EmptyCacheHook",  # it would hide random numbers that the hook has used
}  # fmt: skip


@pytest.fixture
def losses(tmp_path, fresh_mmengine, repo_root):
    """Trains two epochs; returns the losses of all steps and the folder of the log."""

    def train(name: str, config: str = "vit3d_cot_contrastive.py", **options):
        fresh_mmengine()
        cfg = load_config(repo_root / "configs" / config, {**SMALL, **options})
        cfg.work_dir, cfg.launcher = str(tmp_path / name), "none"
        runner = CTVLMRunner.from_cfg(cfg)
        runner.train()
        folder = next((tmp_path / name).rglob("scalars.json")).parent
        rows = [json.loads(line) for line in (folder / "scalars.json").read_text().splitlines()]
        return [row["loss"] for row in rows if "loss" in row], folder

    return train


def test_tensorboard_has_scalars_hyperparameters_pictures_and_texts_and_training_is_the_same(losses):
    plain, folder = losses("plain")
    assert not (folder / "vis_image").exists()
    draw = {"default_hooks.visualization.draw": True}
    drawn, folder = losses("drawn", vis_backends=["LocalVisBackend", "TensorboardVisBackend"], **draw)
    assert len(plain) == 4 and drawn == plain
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    assert "loss" in tags["scalars"] and any(tag.startswith("retrieval/") for tag in tags["scalars"])
    np.testing.assert_allclose([event.value for event in events.Scalars("loss")], plain, rtol=1e-6)
    assert [event.step for event in events.Images("attention")] == [1, 2]
    assert imread(folder / "vis_image" / "attention_2.png").shape[:2] == (
        events.Images("attention")[1].height,
        events.Images("attention")[1].width,
    )
    text = events.Tensors("texts/text_summary")[1].tensor_proto.string_val[0].decode()
    assert "epoch 2" in text and "| share of the attention |" in text
    assert text == (folder / "vis_text" / "texts_2.md").read_text()
    config = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "CoTContrastiveVLM" in config
    session = events.SummaryMetadata("_hparams_/session_start_info")
    assert b"train_dataloader.batch_size" in session.plugin_data.content


@pytest.mark.slow
def test_generated_steps_are_next_to_the_reference(losses):
    head = {f"model.objectives.generation.head.{k}": v for k, v in dict(embed_dims=32, depth=1, max_length=24).items()}
    draws = {"model.objectives.generation.head.generation.num_return_sequences": 2}
    options = {"load_from": None, "default_hooks.visualization.draw": True, "val_evaluator": [], **head, **draws}
    _, folder = losses("generate", "vit3d_cot_generation.py", **options)
    text = (folder / "vis_text" / "texts_1.md").read_text()
    assert "| step | reference | generated |" in text and "| impression | " in text


def test_texts_of_a_model_that_generates():
    sample = CTDataSample(
        steps=[CoTStep("A cyst.")], impression="Cyst.", pred_cot=[dict(text="A | cyst."), dict(text="<b>")]
    )
    lines = sample_texts(sample).split("\n")
    assert lines[2:] == ["| 1 | A cyst. | A \\| cyst. |", "| 2 |  | &lt;b> |", "| impression | Cyst. |  |"]
    assert markdown_table(["a"], [["x\ny"]]).endswith("| x y |")


def test_case_without_text_has_no_texts():
    assert sample_texts(CTDataSample(steps=[])) == ""


@pytest.mark.parametrize("name", ["interval", "case", "max_steps"])
def test_invalid_arguments_are_errors(name):
    with pytest.raises(ValueError, match=rf"CaseVisualizationHook\.{name} is -1"):
        CaseVisualizationHook(**{name: -1})
