"""Build a model from a config and a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from torch import nn

import ctvlm.models  # noqa: F401  (registers all components)
from ctvlm.engine import CheckpointError, ConfigError, check_fits, load_config, read_checkpoint
from ctvlm.engine.checkpoint.upgrade import upgrade_config
from ctvlm.engine.checkpoint.weight_match import plain_names
from ctvlm.registry import MODELS
from ctvlm.utils.pretrained_files import use_pretrained_files
from ctvlm.utils.training_data import checkpoint_records


def default_device() -> torch.device:
    """The current accelerator if there is one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def init_model(
    config: str | Path | Config, checkpoint: str | Path | None = None, device: str | torch.device | None = None
) -> nn.Module:
    """Build the model of a config in eval mode, and load the weights and the tokenizer of a checkpoint.

    ``model.training_data`` contains records of the training data (``ctvlm.utils.training_data.data_record``). It
    contains one record of type "unknown" if the checkpoint has no records, and is empty for initial weights.

    Args:
        config: path, or a loaded config. It is stored as ``model.cfg``.
        checkpoint: local file, loaded without unpickling objects; None keeps the initial weights.
        device: default: the current accelerator, else the CPU.

    Raises:
        ConfigError: the config cannot be read or has no model.
        CheckpointError: the file is missing or damaged, or its weights do not fit the model.
    """
    cfg = upgrade_config(config) if isinstance(config, Config) else load_config(config)
    if not cfg.get("model"):
        raise ConfigError(f"config {cfg.filename} has no 'model'")
    content = None if checkpoint is None else read_checkpoint(checkpoint)
    # If the checkpoint contains the files of a pretrained submodule, the folder in the config does not need to exist.
    with use_pretrained_files(content["state_dict"] if content else {}):
        model = MODELS.build(cfg.model)
    if content is not None and checkpoint is not None:
        check_fits(model, content, checkpoint)
        try:
            model.load_state_dict(plain_names(content["state_dict"]))
        except RuntimeError as error:
            # check_fits ignores the bytes of a tokenizer, which only the model or only the checkpoint may have.
            raise CheckpointError(f"checkpoint {checkpoint} does not fit the config's model: {error}") from error
    model.cfg = cfg
    model.training_data = [] if content is None else checkpoint_records(content)
    return model.to(default_device() if device is None else device).eval()
