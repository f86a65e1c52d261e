"""A pretrained text encoder inside the whole model, through training and back."""

import shutil

import pytest
import torch
from mmengine.config import Config

from ctvlm.apis import init_model
from ctvlm.datasets.transforms import PackCTInputs
from ctvlm.engine import CTVLMRunner
from ctvlm.phantom import PhantomCT
from ctvlm.registry import MODELS
from ctvlm.utils import CTVLMError
from tests.test_models.text_checkpoints import save_bert

SHAPE = (8, 32, 32)


def model_config(folder, **changes):
    return dict(
        type="CoTContrastiveVLM",
        space=dict(shared_dims=16),
        backbone=dict(type="ThreeDVisionEncoder", embed_dims=24, depth=1, block=dict(num_heads=2)),
        text_encoder=dict(type="HFTextEncoder", pretrained=str(folder)) | changes,
        losses=dict(volume=dict(type="CrossModalContrastiveLoss"), step=dict(type="StepAlignmentLoss")),
    )


def run_config(folder, work_dir, **changes):
    loader = dict(
        dataset=dict(type="PhantomCT", num_cases=4, shape=SHAPE, pipeline=[dict(type="PackCTInputs")], num_workers=0),
        sampler=dict(type="DefaultSampler", shuffle=True),
        collate_fn=dict(type="pseudo_collate"),
        batch_size=2,
        num_workers=0,
    )
    return Config(
        dict(
            default_scope="ctvlm",
            model=model_config(folder, **changes),
            work_dir=str(work_dir),
            train_dataloader=loader,
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=1),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-2)),
            default_hooks=dict(
                tokenizer=dict(type="FitTokenizerHook"),
                checkpoint=dict(type="PlainCheckpointHook", interval=1),
            ),
            randomness=dict(seed=0),
        )
    )


@pytest.fixture(scope="module")
def batch():
    dataset = PhantomCT(num_cases=2, shape=SHAPE, pipeline=[PackCTInputs()], num_workers=0)
    items = [dataset[i] for i in range(2)]
    return dict(
        inputs=dict(
            volume=[item["inputs"]["volume"] for item in items],
            region_map=[item["inputs"]["region_map"] for item in items],
        ),
        data_samples=[item["data_samples"] for item in items],
    )


def predict(model, batch):
    model.eval()
    with torch.no_grad():
        samples = model(**model.data_preprocessor(batch), mode="predict")
    return torch.stack([torch.stack([sample.pred_volume, sample.pred_impression]) for sample in samples])


def test_trains_only_what_it_should_and_keeps_what_was_pretrained(tmp_path, batch):
    folder = save_bert(tmp_path / "bert")
    model = MODELS.build(model_config(folder, train="top", top_layers=1))
    before = {name: value.clone() for name, value in model.text_encoder.state_dict().items()}
    model.init_weights()  # as the Runner does
    assert all(torch.equal(value, before[name]) for name, value in model.text_encoder.state_dict().items())
    model.train()
    losses = model(**model.data_preprocessor(batch), mode="loss")
    sum(value for key, value in losses.items() if key.startswith("loss")).backward()
    with_gradient = {name for name, p in model.text_encoder.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, _ in model.text_encoder.named_parameters() if "encoder.layer.3." in name}


def test_a_run_can_be_gone_on_with_and_tested_where_the_encoder_is_not(tmp_path, batch, fresh_mmengine):
    folder = save_bert(tmp_path / "bert")
    runner = CTVLMRunner.from_cfg(run_config(folder, tmp_path / "work", train="lora"))
    frozen = {name: p.clone() for name, p in runner.model.text_encoder.named_parameters() if not p.requires_grad}
    assert not runner.model.needs_tokenizer()
    runner.train()
    now = dict(runner.model.text_encoder.named_parameters())
    assert frozen and all(torch.equal(value, now[name]) for name, value in frozen.items())
    expected = predict(runner.model, batch)

    shutil.rmtree(folder)
    fresh_mmengine()
    with pytest.raises(CTVLMError, match="bert'"):
        CTVLMRunner.from_cfg(run_config(folder, tmp_path / "other", train="lora"))
    fresh_mmengine()
    cfg = run_config(folder, tmp_path / "work", train="lora")
    cfg.load_from, cfg.resume, cfg.train_cfg.max_epochs = str(tmp_path / "work" / "epoch_1.pth"), True, 2
    assert torch.equal(predict(init_model(cfg, cfg.load_from, "cpu"), batch), expected)
    resumed = CTVLMRunner.from_cfg(cfg)
    resumed.load_or_resume()
    assert torch.equal(predict(resumed.model, batch), expected)
    resumed._has_loaded = False  # so that train() loads again, beside the optimizer
    resumed.train()
    assert (predict(resumed.model, batch) - expected).abs().max() > 1e-4
