"""Reseed before each epoch, so that a resumed run equals an uninterrupted one."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ctvlm.registry import HOOKS
from ctvlm.utils import seed_everything, seed_worker


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Reseed Python, NumPy and torch from (seed, epoch, rank) before every training epoch.

    With one checkpoint per epoch, a resumed run uses the same dropout masks, order of cases and augmentations as an
    uninterrupted run. Data workers are reseeded too. Persistent workers are not supported, because they keep their
    random state between epochs.

    Raises:
        ValueError: ``train_dataloader.persistent_workers`` is True.
    """

    # After all hooks that might use random numbers.
    priority = "VERY_LOW"

    def before_train(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        if getattr(loader, "persistent_workers", False):
            raise ValueError(
                "train_dataloader.persistent_workers: found True; EpochSeedHook expects False, because persistent "
                "workers keep their random state and a resumed run would differ from an uninterrupted one"
            )
        # mmengine's worker_init_fn uses the same seeds in every epoch.
        loader.worker_init_fn = seed_worker

    def before_train_epoch(self, runner: Runner) -> None:
        seed_everything(runner.seed, runner.epoch, runner.rank)
