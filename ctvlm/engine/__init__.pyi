from .checkpoint import CheckpointError as CheckpointError
from .checkpoint import read_checkpoint as read_checkpoint
from .checkpoint import write_json as write_json
from .checkpoint.weight_match import check_fits as check_fits
from .cli.config import (
    drop_validation as drop_validation,
)
from .cli.config import (
    enable_amp as enable_amp,
)
from .cli.config import (
    enable_lr_scaling as enable_lr_scaling,
)
from .cli.config import (
    load_config as load_config,
)
from .cli.config import (
    set_resume as set_resume,
)
from .cli.config import (
    set_work_dir as set_work_dir,
)
from .cli.config_error import ConfigError as ConfigError
from .cli.config_options import ConfigOptions as ConfigOptions
from .cli.console import quiet_warnings as quiet_warnings
from .cli.errors import run_tool as run_tool
from .cli.errors import user_message as user_message
from .hooks import (
    CaseVisualizationHook as CaseVisualizationHook,
)
from .hooks import (
    EpochSeedHook as EpochSeedHook,
)
from .hooks import (
    FitTokenizerHook as FitTokenizerHook,
)
from .hooks import (
    PlainCheckpointHook as PlainCheckpointHook,
)
from .hooks import (
    PredictionKeysHook as PredictionKeysHook,
)
from .hooks import (
    PromptHook as PromptHook,
)
from .hooks import (
    ResultsTableHook as ResultsTableHook,
)
from .hooks import (
    RichProgressHook as RichProgressHook,
)
from .launch import init_distributed as init_distributed
from .model_wrapper import CTDistributedDataParallel as CTDistributedDataParallel
from .optim.bfloat16_optim_wrapper import BFloat16OptimWrapper as BFloat16OptimWrapper
from .optim.muon import MuonAdamW as MuonAdamW
from .optim.muon import MuonConstructor as MuonConstructor
from .optim.sharded_optimizer import ShardedOptimizer as ShardedOptimizer
from .runner import CTVLMRunner as CTVLMRunner
from .visualizer import (
    CTVisualizer as CTVisualizer,
)
from .visualizer import (
    LocalVisBackend as LocalVisBackend,
)
from .visualizer import (
    TensorboardVisBackend as TensorboardVisBackend,
)
from .visualizer import (
    WandbVisBackend as WandbVisBackend,
)
