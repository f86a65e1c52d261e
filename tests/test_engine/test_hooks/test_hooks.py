from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from rich.console import Console
from torch.utils.data import Subset

from ctvlm.engine import CTVLMRunner, FitTokenizerHook, RichProgressHook
from ctvlm.engine.hooks.fit_tokenizer_hook import collect_texts


class Texts(BaseDataset):
    def __init__(self, *texts):
        self._texts = list(texts)
        super().__init__()

    def load_data_list(self):
        return [{} for _ in self._texts]

    def texts(self):
        return self._texts


def test_texts_of_wrapped_data_sets():
    assert collect_texts(ConcatDataset([Texts("a", "b"), Texts("c")])) == ["a", "b", "c"]
    assert collect_texts(RepeatDataset(Texts("a", "b"), 3)) == ["a", "b"]
    assert collect_texts(Subset(Texts("a"), [0])) == ["a"]


def test_data_set_without_texts_is_an_error():
    with pytest.raises(ValueError, match=r"list .*texts\(\)"):
        collect_texts([1, 2])


def test_model_without_tokenizer_is_not_changed():
    model = SimpleNamespace()
    FitTokenizerHook().before_train(SimpleNamespace(model=model))
    assert vars(model) == {}


def test_resumed_model_keeps_its_tokenizer(toy_config):
    cfg = toy_config(train_cfg__max_epochs=1)
    model = CTVLMRunner.from_cfg(cfg).train()
    assert model.tokenizer_state() == "24 texts"
    cfg = toy_config("more", load_from=f"{cfg.work_dir}/epoch_1.pth", resume=True, train_dataloader__dataset__length=32)
    assert CTVLMRunner.from_cfg(cfg).train().tokenizer_state() == "24 texts"


def test_progress_bar_is_closed_after_an_error(toy_config):
    screen = io.StringIO()
    runner = CTVLMRunner.from_cfg(toy_config(model__crash_at_epoch=2))
    hook = next(hook for hook in runner.hooks if isinstance(hook, RichProgressHook))
    hook.console = Console(file=screen, force_terminal=True, width=160)
    with pytest.raises(RuntimeError, match="killed"):
        runner.train()
    text = screen.getvalue()
    assert "epoch 2/4" in text and "loss" in text and "toy/error" in text
    assert hook.progress is None
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is visible again


def test_interval_must_be_positive():
    with pytest.raises(ValueError, match="interval is 0"):
        RichProgressHook(interval=0)
