from .checkpoint import (
    CheckpointError as CheckpointError,
    check_fits as check_fits,
    read_checkpoint as read_checkpoint,
    write_json as write_json,
)
from .cli.config import (
    drop_validation as drop_validation,
    enable_amp as enable_amp,
    enable_lr_scaling as enable_lr_scaling,
    load_config as load_config,
    set_resume as set_resume,
    set_work_dir as set_work_dir,
)
from .cli.config_error import ConfigError as ConfigError
from .cli.config_options import ConfigOptions as ConfigOptions
from .cli.console import quiet_warnings as quiet_warnings
from .cli.errors import run_tool as run_tool, user_message as user_message
from .hooks import (
    CaseVisualizationHook as CaseVisualizationHook,
    EpochSeedHook as EpochSeedHook,
    FitTokenizerHook as FitTokenizerHook,
    LoggerHook as LoggerHook,
    NonFiniteError as NonFiniteError,
    NonFiniteHook as NonFiniteHook,
    PlainCheckpointHook as PlainCheckpointHook,
    PredictionKeysHook as PredictionKeysHook,
    PromptHook as PromptHook,
    ResultsTableHook as ResultsTableHook,
    RichProgressHook as RichProgressHook,
    RunRecordHook as RunRecordHook,
    StopSignalHook as StopSignalHook,
)
from .launch import init_distributed as init_distributed
from .model_wrapper import CTDistributedDataParallel as CTDistributedDataParallel
from .optim.bfloat16_optim_wrapper import BFloat16OptimWrapper as BFloat16OptimWrapper
from .optim.muon import MuonAdamW as MuonAdamW, MuonConstructor as MuonConstructor
from .optim.sharded_optimizer import ShardedOptimizer as ShardedOptimizer
from .runner import CTVLMRunner as CTVLMRunner
from .visualizer import (
    CTVisualizer as CTVisualizer,
    LocalVisBackend as LocalVisBackend,
    TensorboardVisBackend as TensorboardVisBackend,
    WandbVisBackend as WandbVisBackend,
)
