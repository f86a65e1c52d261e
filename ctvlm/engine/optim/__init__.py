"""Optimizers, optimizer wrappers and their constructors."""

from ctvlm.engine.optim.bfloat16_optim_wrapper import BFloat16OptimWrapper
from ctvlm.engine.optim.muon import MuonAdamW, MuonConstructor
from ctvlm.engine.optim.sharded_optimizer import ShardedOptimizer

__all__ = ["BFloat16OptimWrapper", "MuonAdamW", "MuonConstructor", "ShardedOptimizer"]
