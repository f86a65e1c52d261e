"""mmengine's backends with texts, hyperparameters, and one line for a missing package."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.visualization import vis_backend
from mmengine.visualization.vis_backend import force_init_env

from ctvlm.registry import VISBACKENDS
from ctvlm.utils import MissingPackageError


@VISBACKENDS.register_module()
class LocalVisBackend(vis_backend.LocalVisBackend):
    """Files in ``vis_data``: ``scalars.json``, ``config.py``, pictures in ``vis_image``, texts in ``vis_text``."""

    @force_init_env
    def add_text(self, name: str, text: str, step: int = 0) -> None:
        """Write ``vis_text/<name>_<step>.md``."""
        folder = Path(self._save_dir) / "vis_text"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}_{step}.md").write_text(text, encoding="utf-8")


@VISBACKENDS.register_module()
class TensorboardVisBackend(vis_backend.TensorboardVisBackend):
    """TensorBoard files in ``vis_data``. The config is a text, and its single values are hyperparameters.

    Raises:
        MissingPackageError: at the first use, if TensorBoard is not installed.
    """

    def _init_env(self) -> None:
        _require("tensorboard")
        super()._init_env()

    @force_init_env
    def add_config(self, config: Config, **kwargs: Any) -> None:
        from torch.utils.tensorboard.summary import hparams

        # Indented by four spaces, so that Markdown shows it as it is.
        self.add_text("config", "\n".join(f"    {line}" for line in config.pretty_text.split("\n")))
        # SummaryWriter.add_hparams would write a second run.
        values = dict(hyperparameters(config.to_dict()))
        for summary in hparams(values, {}):
            self._tensorboard.file_writer.add_summary(summary)

    @force_init_env
    def add_text(self, name: str, text: str, step: int = 0) -> None:
        """Write a text in Markdown."""
        self._tensorboard.add_text(name, text, step)


@VISBACKENDS.register_module()
class WandbVisBackend(vis_backend.WandbVisBackend):
    """A run of Weights & Biases. ``init_kwargs`` are the arguments of ``wandb.init``, such as ``dict(project="ct")``.

    The source code is not uploaded.

    Raises:
        MissingPackageError: at the first use, if wandb is not installed.
    """

    def _init_env(self) -> None:
        _require("wandb")
        super()._init_env()

    @force_init_env
    def add_config(self, config: Config, **kwargs: Any) -> None:
        allow = (self._init_kwargs or {}).get("allow_val_change", False)
        self._wandb.config.update(config.to_dict(), allow_val_change=allow)

    @force_init_env
    def add_text(self, name: str, text: str, step: int = 0) -> None:
        """Log a text as HTML."""
        page = f"<pre style='white-space: pre-wrap'>{escape(text)}</pre>"
        self._wandb.log({name: self._wandb.Html(page), "epoch": step}, commit=self._commit)

    def close(self) -> None:
        """End the run."""
        if hasattr(self, "_wandb"):
            self._wandb.finish()


def hyperparameters(value: Any, prefix: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """Dotted keys and values of a config that are numbers, texts or booleans; lists of them as text."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from hyperparameters(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (bool, int, float, str)):
        yield prefix, value
    elif isinstance(value, (list, tuple)):
        if any(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value):
                yield from hyperparameters(item, f"{prefix}.{number}")
        else:
            yield prefix, re.sub(r"\s+", " ", str(list(value)))


def _require(package: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"vis_backends: the package {package} is not installed. Install it with: pip install 'ctvlm[{package}]'"
        ) from error
