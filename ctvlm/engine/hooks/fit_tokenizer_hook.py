"""Fit the tokenizer of the text encoder to the training texts."""

from __future__ import annotations

from typing import Any

from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ctvlm.engine.model_wrapper import unwrap_model
from ctvlm.registry import HOOKS


@HOOKS.register_module()
class FitTokenizerHook(Hook):
    """Before training: if the model needs a tokenizer, fit it on rank 0 and send it to all ranks.

    The model must implement ``needs_tokenizer() -> bool``, ``fit_tokenizer(texts)``, ``tokenizer_state() -> str`` and
    ``load_tokenizer_state(str)``; other models are not changed. The hook runs after a checkpoint has been loaded, so a
    resumed model keeps its tokenizer.

    Raises:
        ValueError: the training data set has no method ``texts()``.
    """

    def before_train(self, runner: Runner) -> None:
        model = unwrap_model(runner.model)
        if not (hasattr(model, "needs_tokenizer") and model.needs_tokenizer()):
            return
        states: list[str | None] = [None]
        if runner.rank == 0:
            texts = collect_texts(runner.train_dataloader.dataset)
            model.fit_tokenizer(texts)
            states = [model.tokenizer_state()]
            runner.logger.info(f"Fitted the tokenizer on {len(texts)} training texts")
        broadcast_object_list(states)
        if runner.rank != 0:
            model.load_tokenizer_state(states[0])


def collect_texts(dataset: Any) -> list[str]:
    """Texts of a data set, which may be wrapped by concatenating, repeating or slicing data sets.

    Raises:
        ValueError: the wrapped data set has no method ``texts()``.
    """
    if hasattr(dataset, "texts"):
        return list(dataset.texts())
    if hasattr(dataset, "datasets"):
        return [text for part in dataset.datasets for text in collect_texts(part)]
    for name in ("dataset", "_dataset"):  # repeated data sets and torch's Subset; mmengine's _SlicedDataset
        if hasattr(dataset, name):
            return collect_texts(getattr(dataset, name))
    raise ValueError(
        f"the tokenizer must be fitted, but the training data set {type(dataset).__name__} has no method texts(): add "
        "the method, or load a checkpoint that contains a tokenizer"
    )
