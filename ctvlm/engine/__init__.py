"""Training and evaluation: Runner, hooks, optimizers, checkpoints, configs and the process group."""

from ctvlm.engine.checkpoint import CheckpointError, read_checkpoint, write_json
from ctvlm.engine.checkpoint.weight_match import check_fits
from ctvlm.engine.cli.config import (
    ConfigError,
    drop_validation,
    enable_amp,
    enable_lr_scaling,
    load_config,
    set_resume,
    set_work_dir,
)
from ctvlm.engine.cli.config_options import ConfigOptions
from ctvlm.engine.cli.console import quiet_warnings
from ctvlm.engine.cli.errors import run_tool, user_message
from ctvlm.engine.hooks import (
    CaseVisualizationHook,
    EpochSeedHook,
    FitTokenizerHook,
    PlainCheckpointHook,
    PredictionKeysHook,
    PromptHook,
    ResultsTableHook,
    RichProgressHook,
)
from ctvlm.engine.launch import init_distributed
from ctvlm.engine.model_wrapper import CTDistributedDataParallel
from ctvlm.engine.optim.bfloat16_optim_wrapper import BFloat16OptimWrapper
from ctvlm.engine.optim.muon import MuonAdamW, MuonConstructor
from ctvlm.engine.optim.sharded_optimizer import ShardedOptimizer
from ctvlm.engine.runner import CTVLMRunner
from ctvlm.engine.visualizer import CTVisualizer, LocalVisBackend, TensorboardVisBackend, WandbVisBackend

__all__ = [
    "BFloat16OptimWrapper",
    "CTDistributedDataParallel",
    "CTVLMRunner",
    "CTVisualizer",
    "CaseVisualizationHook",
    "CheckpointError",
    "ConfigError",
    "ConfigOptions",
    "EpochSeedHook",
    "FitTokenizerHook",
    "MuonAdamW",
    "MuonConstructor",
    "LocalVisBackend",
    "PlainCheckpointHook",
    "PredictionKeysHook",
    "PromptHook",
    "ResultsTableHook",
    "RichProgressHook",
    "ShardedOptimizer",
    "TensorboardVisBackend",
    "WandbVisBackend",
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
