"""From a config and a checkpoint to a model that is ready to use."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from torch import nn

import ctvlm.models  # noqa: F401  (registers everything)
from ctvlm.engine import CheckpointError, ConfigError, check_fits, load_config, read_checkpoint
from ctvlm.engine.checkpoint.upgrade import upgrade_config
from ctvlm.registry import MODELS
from ctvlm.utils.pretrained_files import use_pretrained_files
from ctvlm.utils.training_data import checkpoint_records


def default_device() -> torch.device:
    """The accelerator that there is, else the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def init_model(
    config: str | Path | Config, checkpoint: str | Path | None = None, device: str | torch.device | None = None
) -> nn.Module:
    """The model of a config in eval mode, with the weights and the tokenizer of a checkpoint.

    ``model.training_data`` lists what the weights were trained on (``ctvlm.utils.training_data.data_record``): one
    entry of type "unknown" for a checkpoint that does not say, none for initial weights.

    Args:
        config: path, or a loaded config. It stays with the model as ``model.cfg``.
        checkpoint: local file, read without unpickling objects; None leaves the initial weights.
        device: default: the accelerator that there is, else the CPU.

    Raises:
        ConfigError: the config cannot be read or has no model.
        CheckpointError: the file is missing or broken, or its weights are not this model's; names those that differ.
    """
    cfg = upgrade_config(config) if isinstance(config, Config) else load_config(config)
    if not cfg.get("model"):
        raise ConfigError(f"the config {cfg.filename} has no 'model' to build")
    read = None if checkpoint is None else read_checkpoint(checkpoint)
    # Where the checkpoint carries a pretrained part's files, the folder that the config names need not be here.
    with use_pretrained_files(read["state_dict"] if read else {}):
        model = MODELS.build(cfg.model)
    if read is not None:
        check_fits(model, read, checkpoint)
        weights = {key.removeprefix("module."): value for key, value in read["state_dict"].items()}
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            # What check_fits lets pass: the bytes of a tokenizer that only one of the two has.
            raise CheckpointError(f"checkpoint {checkpoint} does not fit the config's model: {error}") from error
    model.cfg = cfg
    model.training_data = [] if read is None else checkpoint_records(read)
    return model.to(default_device() if device is None else device).eval()
