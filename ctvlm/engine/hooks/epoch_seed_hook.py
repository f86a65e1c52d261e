"""Equal random numbers for an interrupted and an uninterrupted run."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ctvlm.registry import HOOKS
from ctvlm.utils import seed_everything, seed_worker


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Reseed Python, NumPy and torch from (seed, epoch, rank) before every training epoch.

    With a checkpoint per epoch, a run that is killed and resumed then draws the same dropout masks, orders
    and augmentations as one that was not. Data workers are reseeded with each epoch too; persistent ones
    carry their state on, so they are refused.

    Raises:
        ValueError: the training dataloader keeps its workers from epoch to epoch.
    """

    # After every hook that might draw numbers of its own.
    priority = "VERY_LOW"

    def before_train(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        if getattr(loader, "persistent_workers", False):
            raise ValueError(
                "train_dataloader.persistent_workers is True, but EpochSeedHook expects False: persistent workers "
                "carry their random state over, and a resumed run would differ from an uninterrupted one"
            )
        # mmengine's own gives every worker the same seed in every epoch.
        loader.worker_init_fn = seed_worker

    def before_train_epoch(self, runner: Runner) -> None:
        seed_everything(runner.seed, runner.epoch, runner.rank)
