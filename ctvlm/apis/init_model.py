"""Build a model: the one of the package, or that of a released folder, a checkpoint or a config."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

import torch
from mmengine.config import Config
from torch import Tensor, nn

import ctvlm.datasets
import ctvlm.models
import ctvlm.phantom.phantom_ct  # noqa: F401  (registers PhantomCT)
from ctvlm.apis.shipped_models import DEFAULT_MODEL, shipped_folder, shipped_names
from ctvlm.engine import CheckpointError, ConfigError, check_fits, load_config, read_checkpoint
from ctvlm.engine.checkpoint.config_text import checkpoint_config
from ctvlm.engine.checkpoint.release import read_release, read_weights
from ctvlm.engine.checkpoint.safe_types import check_types
from ctvlm.engine.checkpoint.upgrade import upgrade_config
from ctvlm.engine.cli.errors import user_message
from ctvlm.engine.cli.installed_configs import find_config, similar_configs
from ctvlm.registry import MODELS
from ctvlm.utils.pretrained_files import use_pretrained_files
from ctvlm.utils.training_data import checkpoint_records
from ctvlm.utils.weight_match import plain_names

CHECKPOINTS = (".pth", ".pt", ".ckpt")
ModelSource: TypeAlias = str | Path | Config


@dataclass(frozen=True)
class _Weights:
    state_dict: dict[str, Tensor]
    training_data: list[dict]
    origin: str | Path
    meta: dict


def is_config(model: ModelSource) -> bool:
    """Whether ``model`` is a config, which contains no weights."""
    if isinstance(model, Config):
        return True
    path = Path(model).expanduser()
    named = str(model) == DEFAULT_MODEL or str(model) in shipped_names()
    return not named and not path.is_dir() and path.suffix.lower() not in (*CHECKPOINTS, ".safetensors")


def default_device() -> torch.device:
    """The current accelerator if there is one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def init_model(
    model: ModelSource | None = None,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """Build a model in eval mode with its weights and tokenizers.

    Example::

        init_model()  # the model of the package
        init_model("vit3d_phantom")  # a name of list_models()
        init_model("work_dirs/run/epoch_8.pth")  # a checkpoint, which contains its config
        init_model("released_model")  # a folder written by tools/model_converters/publish.py
        init_model("config.py", "epoch_8.pth")  # a config and a checkpoint or released folder

    The model has the attributes ``cfg`` and ``training_data``: records of the data that its weights were trained on
    (``ctvlm.utils.training_data.data_record``). They are one record of type "unknown" if the checkpoint has none, and
    empty for the initial weights of a config, unless the model itself has read published weights. Code is executed
    from a config file only.

    Args:
        model: see the example; None: that of ``checkpoint``, else the default model of the package.
        checkpoint: checkpoint file or released folder with the weights for a config.
        device: default: the current accelerator, else the CPU.

    Raises:
        ConfigError: the config cannot be read, has no model, or names a component that is not registered.
        CheckpointError: a file is missing or damaged, or its weights do not fit the model.
    """
    if model is None:
        model, checkpoint = (DEFAULT_MODEL, None) if checkpoint is None else (checkpoint, None)
    cfg, weights = _resolve(model)
    if checkpoint is not None:
        if weights is not None:
            raise CheckpointError(f"found two checkpoints, {model} and {checkpoint}: pass a config and a checkpoint")
        weights = _checkpoint_weights(read_weights(checkpoint), checkpoint)
    built: Any = _build(cfg, weights)
    built.cfg = cfg
    # A model that reads published weights knows that it is trained.
    built.training_data = getattr(built, "training_data", []) if weights is None else weights.training_data
    return built.to(default_device() if device is None else device).eval()


def _resolve(model: ModelSource) -> tuple[Config, _Weights | None]:
    """Config of a model, and its weights if the source contains them."""
    if isinstance(model, Config):
        return upgrade_config(model), None
    path = Path(model).expanduser()
    if str(model) == DEFAULT_MODEL or str(model) in shipped_names():
        path = shipped_folder(str(model))
    if path.suffix.lower() in CHECKPOINTS:
        checkpoint = read_checkpoint(path)
        cfg = checkpoint_config(checkpoint, path)
        check_types(cfg, path)
        return cfg, _checkpoint_weights(checkpoint, path)
    if path.is_dir():
        release = read_release(path)
        check_types(release.config, path)
        return release.config, _Weights(release.state_dict, release.training_data, path, {})
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path} contains weights without a config: pass its folder, written by publish.py")
    if not path.suffix and not path.exists():
        return _config_by_name(model), None
    return load_config(path), None


def _config_by_name(name: str | Path) -> Config:
    if find_config(name) is None:
        models = shipped_names()
        similar = [*get_close_matches(str(name), models, n=1), *similar_configs(name)]
        hint = f"; did you mean {' or '.join(similar)}?" if similar else ""
        known = f"; models: {', '.join(models)}" if models else ""
        raise ConfigError(f"model not found: {name} is no file, folder, name of a model or config{hint}{known}")
    return load_config(name)


def _checkpoint_weights(checkpoint: dict, path: str | Path) -> _Weights:
    return _Weights(
        plain_names(checkpoint["state_dict"]), checkpoint_records(checkpoint), path, checkpoint.get("meta") or {}
    )


def _build(cfg: Config, weights: _Weights | None) -> nn.Module:
    """The model of a config, with its weights."""
    if not cfg.get("model"):
        raise ConfigError(f"config {cfg.filename} has no 'model'")
    # If the checkpoint contains the files of a pretrained submodule, the folder in the config does not need to exist.
    with use_pretrained_files(weights.state_dict if weights else {}):
        try:
            model = MODELS.build(cfg.model)
        except (KeyError, TypeError) as error:
            if (message := user_message(error)) is None:
                raise
            raise ConfigError(f"config {cfg.filename}: {message}{_missing_imports(cfg)}") from error
    if weights is not None:
        content = dict(state_dict=weights.state_dict, meta=weights.meta)
        hint = "Use the config it was trained with, which it contains: omit the config."
        check_fits(model, content, weights.origin, hint)
        try:
            model.load_state_dict(weights.state_dict)
        except RuntimeError as error:
            # check_fits ignores the bytes of a tokenizer, which only the model or only the checkpoint may have.
            raise CheckpointError(f"checkpoint {weights.origin} does not fit the config's model: {error}") from error
    return model


def _missing_imports(cfg: Config) -> str:
    """Modules that a checkpoint's config imports; they are not imported here."""
    imports = (cfg.get("custom_imports") or {}).get("imports") or []
    names = [imports] if isinstance(imports, str) else list(imports)
    return f" This config needs: import {', '.join(names)}" if names else ""
