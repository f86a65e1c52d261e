"""Backends of the visualizer: one config line, missing packages, Weights & Biases."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from ctvlm.engine import CTVisualizer, CTVLMRunner, load_config, user_message
from ctvlm.engine.visualizer.backends import WandbVisBackend, hyperparameters
from ctvlm.utils import CTVLMError


def test_default_config_has_the_visualizer_and_an_option_adds_a_backend(repo_root):
    path = repo_root / "configs/vit3d_cot_contrastive.py"
    assert load_config(path).visualizer == dict(type="CTVisualizer", vis_backends=["LocalVisBackend"])
    names = ["LocalVisBackend", "TensorboardVisBackend"]
    assert load_config(path, {"vis_backends": names}).visualizer.vis_backends == names


@pytest.mark.parametrize(
    ("backend", "package"), [("TensorboardVisBackend", "tensorboard"), ("WandbVisBackend", "wandb")]
)
def test_missing_package_is_one_line_with_the_command(toy_config, monkeypatch, backend, package):
    monkeypatch.setitem(sys.modules, package, None)
    cfg = toy_config()
    cfg.visualizer.vis_backends = [backend]
    with pytest.raises(CTVLMError) as error:
        CTVLMRunner.from_cfg(cfg)
    message = user_message(error.value)
    assert f"pip install 'ctvlm[{package}]'" in message and "\n" not in message


class FakeWandb(SimpleNamespace):
    """Records the calls of the functions of wandb that the backend uses."""

    def __init__(self):
        super().__init__(calls=[], config=SimpleNamespace(update=lambda *a, **k: self.calls.append(("config", a[0]))))

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append((name, args or kwargs)) or (name, *args)


def test_wandb_gets_config_scalars_pictures_and_texts(toy_config, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    cfg = toy_config(train_cfg__max_epochs=1)
    cfg.visualizer.vis_backends = [dict(type="WandbVisBackend", init_kwargs=dict(project="ct", mode="offline"))]
    runner = CTVLMRunner.from_cfg(cfg)
    runner.train()
    runner.visualizer.add_text("texts", "a <b>", 3)
    names = [name for name, _ in fake.calls]
    assert names[:2] == ["init", "config"] and "finish" in names
    assert fake.calls[0][1]["project"] == "ct" and fake.calls[1][1]["model"]["type"] == "ToyModel"
    logged = [args[0] for name, args in fake.calls if name == "log"]
    assert any("loss" in row for row in logged) and any("toy/error" in row for row in logged)
    assert "a &lt;b&gt;" in logged[-1]["texts"][1] and logged[-1]["epoch"] == 3


@pytest.mark.slow
def test_wandb_writes_a_run_offline(tmp_path, monkeypatch):
    try:
        import wandb  # noqa: F401
    except ImportError:
        pytest.skip("needs pip install 'ctvlm[wandb]'")
    monkeypatch.setenv("WANDB_SILENT", "true")
    backend = WandbVisBackend(str(tmp_path), init_kwargs=dict(project="ct", mode="offline"))
    backend.add_config(Config(dict(model=dict(type="A"))))
    backend.add_scalars({"loss": 1.0}, 1)
    backend.add_text("texts", "a step", 1)
    backend.close()
    assert [path.stat().st_size > 0 for path in tmp_path.rglob("*.wandb")] == [True]


def test_one_backend_can_be_given_by_name_or_config(tmp_path, fresh_mmengine):
    for number, backends in enumerate(("LocalVisBackend", dict(type="LocalVisBackend"), ["LocalVisBackend"])):
        visualizer = CTVisualizer(f"v{number}", vis_backends=backends, save_dir=str(tmp_path))
        assert type(visualizer.get_backend("LocalVisBackend")).__module__ == "ctvlm.engine.visualizer.backends"


def test_hyperparameters_are_the_single_values_of_a_config():
    config = dict(a=dict(b=1, c=None), d=[dict(e="x"), dict(e="y")], f=(1, 2))
    assert dict(hyperparameters(config)) == {"a.b": 1, "d.0.e": "x", "d.1.e": "y", "f": "[1, 2]"}
