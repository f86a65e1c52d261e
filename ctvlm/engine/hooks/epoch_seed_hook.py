"""Reseed before each epoch, so that a resumed run equals an uninterrupted one."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ctvlm.registry import HOOKS
from ctvlm.utils import seed_everything


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Reseed Python, NumPy and torch from (seed, epoch, rank) before every training epoch.

    With one checkpoint per epoch, a resumed run uses the same dropout masks as an uninterrupted run. The augmentations
    do not depend on these generators, see ``SeededLoader``.
    """

    # After all hooks that might use random numbers.
    priority = "VERY_LOW"

    def before_train_epoch(self, runner: Runner) -> None:
        seed_everything(runner.seed, runner.epoch, runner.rank)
