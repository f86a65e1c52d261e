"""What runs a model: the Runner, its hooks, checkpoints, configs, the process group."""

from ctvlm.engine.checkpoint import CheckpointError, read_checkpoint, write_json
from ctvlm.engine.config import (
    ConfigError,
    drop_validation,
    enable_amp,
    enable_lr_scaling,
    load_config,
    set_resume,
    set_work_dir,
)
from ctvlm.engine.config_options import ConfigOptions
from ctvlm.engine.console import quiet_warnings
from ctvlm.engine.errors import run_tool, user_message
from ctvlm.engine.hooks import (
    EpochSeedHook,
    FitTokenizerHook,
    PlainCheckpointHook,
    PromptHook,
    ResultsTableHook,
    RichProgressHook,
)
from ctvlm.engine.launch import init_distributed
from ctvlm.engine.model_wrapper import CTDistributedDataParallel
from ctvlm.engine.muon import MuonAdamW, MuonConstructor
from ctvlm.engine.optim_wrapper import BFloat16OptimWrapper
from ctvlm.engine.optimizers import ShardedOptimizer
from ctvlm.engine.runner import CTVLMRunner
from ctvlm.engine.weight_match import check_fits

__all__ = [
    "BFloat16OptimWrapper",
    "CTDistributedDataParallel",
    "CTVLMRunner",
    "CheckpointError",
    "ConfigError",
    "ConfigOptions",
    "EpochSeedHook",
    "FitTokenizerHook",
    "MuonAdamW",
    "MuonConstructor",
    "PlainCheckpointHook",
    "PromptHook",
    "ResultsTableHook",
    "RichProgressHook",
    "ShardedOptimizer",
    "check_fits",
    "drop_validation",
    "enable_amp",
    "enable_lr_scaling",
    "init_distributed",
    "load_config",
    "quiet_warnings",
    "read_checkpoint",
    "run_tool",
    "set_resume",
    "set_work_dir",
    "user_message",
    "write_json",
]
