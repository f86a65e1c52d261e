import io
from types import SimpleNamespace

from mmengine.hooks import iter_timer_hook
from rich.console import Console

from ctvlm.engine import CTVLMRunner, RichProgressHook
from tests.test_engine.toy import ToyDataset


def run(cfg, width):
    runner = CTVLMRunner.from_cfg(cfg)
    hook = next(hook for hook in runner.hooks if isinstance(hook, RichProgressHook))
    hook.console = Console(file=io.StringIO(), force_terminal=width is not None, color_system=None, width=width or 160)
    runner.train()
    return hook.console.file.getvalue()


def test_eta_does_not_include_the_first_step(toy_config, monkeypatch):
    """The first access prepares the data. It takes 100 s of a clock that no pause of this process moves."""
    get, now = ToyDataset.__getitem__, [0.0]
    monkeypatch.setattr(iter_timer_hook, "time", SimpleNamespace(time=lambda: now[0]))

    def slow_at_first(self, index):
        now[0] = 100.0
        return get(self, index)

    monkeypatch.setattr(ToyDataset, "__getitem__", slow_at_first)
    text = run(
        toy_config(train_cfg__max_epochs=2, train_cfg__val_interval=10, default_hooks__progress__interval=1), None
    )
    lines = [line.split("  ") for line in text.splitlines() if line.startswith("epoch 1")]
    assert [line[1:3] for line in lines] == [
        ["step 1/6", "eta -:--"],
        ["step 2/6", "eta 0:00"],
        ["step 3/6", "eta 0:00"],
    ]
    assert float(lines[1][4].split()[1]) < 1  # step ... s


def test_live_line_at_80_columns(toy_config):
    text = run(toy_config(), 80)
    assert "epoch 4/4 ━━━━━━━━━━━━ 12/12 eta 0:00 loss " in text
