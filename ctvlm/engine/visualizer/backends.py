"""mmengine's backends with texts, hyperparameters, and one line for a missing package."""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.visualization import vis_backend
from mmengine.visualization.vis_backend import force_init_env
from PIL import Image

from ctvlm.registry import VISBACKENDS
from ctvlm.utils import MissingPackageError, append_text, atomic_write


@VISBACKENDS.register_module()
class LocalVisBackend(vis_backend.LocalVisBackend):
    """Files in ``vis_data``: ``scalars.json``, ``config.py``, pictures in ``vis_image``, texts in ``vis_text``."""

    @force_init_env
    def add_text(self, name: str, text: str, step: int = 0) -> None:
        """Write ``vis_text/<name>_<step>.md``."""
        with atomic_write(Path(self._save_dir) / "vis_text" / f"{name}_{step}.md") as part:
            part.write_text(text, encoding="utf-8")

    @force_init_env
    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Write the config."""
        with atomic_write(self._config_save_file) as part:
            config.dump(str(part))

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Write ``vis_image/<name>_<step>.png``; ``image`` is RGB, uint8 (H, W, 3)."""
        with atomic_write(Path(self._img_save_dir) / f"{name}_{step}.png") as part:  # OpenCV ignores a full disk
            Image.fromarray(image).save(part)

    def _dump(self, value_dict: dict, file_path: str, file_format: str) -> None:
        append_text(file_path, dump(value_dict, file_format=file_format) + "\n")


@VISBACKENDS.register_module()
class TensorboardVisBackend(vis_backend.TensorboardVisBackend):
    """TensorBoard files in ``vis_data``. The config is a text, and its single values are hyperparameters.

    Raises:
        MissingPackageError: at the first use, if TensorBoard is not installed.
    """

    def _init_env(self) -> None:
        _require("tensorboard")
        _silence_writer_threads()
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


def _silence_writer_threads() -> None:
    """TensorBoard writes in a thread, and raises its errors again in the next call: no traceback of the thread."""
    report = threading.excepthook
    if getattr(report, "skips_tensorboard", False):
        return

    def skip(args: threading.ExceptHookArgs) -> None:
        if type(args.thread).__name__ != "_AsyncWriterThread" or not isinstance(args.exc_value, OSError):
            report(args)

    skip.skips_tensorboard = True  # type: ignore[attr-defined]
    threading.excepthook = skip


def _require(package: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"vis_backends: the package {package} is not installed. Install it with: pip install 'ctvlm[{package}]'"
        ) from error
