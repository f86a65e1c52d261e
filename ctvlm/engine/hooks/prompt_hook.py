"""Prompt embeddings for zero-shot metrics."""

from __future__ import annotations

import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ctvlm.engine.model_wrapper import unwrap_model
from ctvlm.registry import HOOKS

# Number of prompts embedded at a time. Hundreds would need too much memory with a large text encoder.
_BATCH = 32


@HOOKS.register_module()
class PromptHook(Hook):
    """Before validation and test, embed the ``prompts()`` of the metrics with ``model.embed_texts``.

    Metrics without ``prompts()`` and ``set_prompt_embeddings(embeddings, scale)`` are ignored. The scale is
    ``model.logit_scale()``; 1 for a model without this method.

    Raises:
        ValueError: a metric has prompts and the model has no ``embed_texts``.
    """

    def before_val_epoch(self, runner: Runner) -> None:
        self._embed(runner, runner.val_loop.evaluator)

    def before_test_epoch(self, runner: Runner) -> None:
        self._embed(runner, runner.test_loop.evaluator)

    @torch.no_grad()
    def _embed(self, runner: Runner, evaluator: Evaluator) -> None:
        metrics = [metric for metric in evaluator.metrics if hasattr(metric, "prompts") and metric.prompts()]
        if not metrics:
            return
        model = unwrap_model(runner.model)
        if not hasattr(model, "embed_texts"):
            raise ValueError(
                f"{type(metrics[0]).__name__} needs prompts embedded, but {type(model).__name__} has no embed_texts: "
                "give the model that method, or leave the metric out"
            )
        texts = list(dict.fromkeys(text for metric in metrics for text in metric.prompts()))
        # The loop sets evaluation mode after this hook. Without it, dropout would change the embeddings.
        training = model.training
        model.eval()
        parts = [model.embed_texts(texts[i : i + _BATCH]).float().cpu() for i in range(0, len(texts), _BATCH)]
        model.train(training)
        embeddings = dict(zip(texts, torch.cat(parts)))
        scale = model.logit_scale() if hasattr(model, "logit_scale") else 1.0
        for metric in metrics:
            metric.set_prompt_embeddings(embeddings, scale=scale)
