"""Train the text encoder's tokenizer on the training texts."""

from __future__ import annotations

from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ctvlm.registry import HOOKS


@HOOKS.register_module()
class FitTokenizerHook(Hook):
    """Before training: if the model needs a tokenizer, rank 0 fits it and hands it to all ranks.

    The model takes part through ``needs_tokenizer() -> bool``, ``fit_tokenizer(texts)``,
    ``tokenizer_state() -> str`` and ``load_tokenizer_state(str)``; one without them is left alone. Runs
    after a checkpoint has been loaded, so that a resumed model keeps the tokenizer it was trained with.

    Raises:
        ValueError: the training data set has no ``texts()``.
    """

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not (hasattr(model, "needs_tokenizer") and model.needs_tokenizer()):
            return
        states = [None]
        if runner.rank == 0:
            texts = collect_texts(runner.train_dataloader.dataset)
            model.fit_tokenizer(texts)
            states = [model.tokenizer_state()]
            runner.logger.info(f"Fitted the tokenizer on {len(texts)} training texts")
        broadcast_object_list(states)
        if runner.rank != 0:
            model.load_tokenizer_state(states[0])


def collect_texts(dataset) -> list[str]:
    """Texts of a data set, looking through concatenating, repeating and slicing wrappers.

    Raises:
        ValueError: the data set inside has no ``texts()``.
    """
    if hasattr(dataset, "texts"):
        return list(dataset.texts())
    if hasattr(dataset, "datasets"):
        return [text for part in dataset.datasets for text in collect_texts(part)]
    for name in ("dataset", "_dataset"):  # repeating wrappers and torch's Subset; mmengine's _SlicedDataset
        if hasattr(dataset, name):
            return collect_texts(getattr(dataset, name))
    raise ValueError(
        f"the model's tokenizer has to be fitted, but the training data set {type(dataset).__name__} has no texts(): "
        "give it that method, or load a checkpoint that holds a tokenizer"
    )
