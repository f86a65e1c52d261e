from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ctvlm.engine import load_config
from ctvlm.engine.hooks.prompt_hook import PromptHook
from ctvlm.registry import MODELS


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def logit_scale(self):
        return 7.0

    def embed_texts(self, texts):
        return self.dropout(torch.tensor([[float(len(text)), 1.0] for text in texts]))


class Metric:
    def __init__(self, *texts):
        self.texts = list(texts)

    def prompts(self):
        return self.texts

    def set_prompt_embeddings(self, embeddings, scale):
        self.embeddings, self.scale = embeddings, scale


def runner(model, *metrics):
    loop = SimpleNamespace(evaluator=SimpleNamespace(metrics=list(metrics)))
    return SimpleNamespace(model=model, val_loop=loop, test_loop=loop)


def test_every_metric_gets_its_prompts_without_dropout():
    model, first, second = Model().train(), Metric("a", "bb"), Metric(*("c" * n for n in range(1, 80)))
    PromptHook().before_test_epoch(runner(model, first, object(), second, Metric()))
    assert first.embeddings["bb"].tolist() == [2, 1]
    assert all(second.embeddings["c" * n].tolist() == [n, 1] for n in range(1, 80))
    assert first.scale == 7
    assert model.training


def test_a_model_that_embeds_no_text_is_named():
    with pytest.raises(ValueError, match="Linear has no embed_texts"):
        PromptHook().before_val_epoch(runner(nn.Linear(1, 1), Metric("a")))
    PromptHook().before_val_epoch(runner(nn.Linear(1, 1), Metric(), object()))


def test_the_default_model_gives_its_own_scale(repo_root):
    cfg = load_config(repo_root / "configs/vit3d_cot_contrastive.py", {"model.backbone.depth": 2})
    model, metric = MODELS.build(cfg.model), Metric("Emphysema is present.")
    model.fit_tokenizer(["Emphysema is present.", "Clear lungs."])
    model.objectives["volume"].criterion.logit_scale.log_scale.data.fill_(3.0)
    PromptHook().before_test_epoch(runner(model, metric))
    assert metric.scale == pytest.approx(float(torch.tensor(3.0).exp()))
    assert metric.embeddings["Emphysema is present."].shape == (cfg.model.space.shared_dims,)


def test_a_model_without_that_method_has_scale_one():
    model, metric = Model(), Metric("a")
    plain = nn.Module()
    plain.embed_texts = model.embed_texts
    PromptHook().before_test_epoch(runner(plain, metric))
    assert metric.scale == 1
