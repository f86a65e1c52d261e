"""Write checkpoints atomically and in a format that can be loaded safely."""

from __future__ import annotations

import math
import os
import re
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ctvlm.engine.checkpoint.files import ATOMIC_BACKEND, AtomicLocalBackend, CheckpointError, to_plain
from ctvlm.engine.checkpoint.last import POINTER
from ctvlm.engine.checkpoint.message_hub import pack_message_hub
from ctvlm.registry import HOOKS
from ctvlm.utils import WriteError
from ctvlm.utils.distributed import raise_on_all_ranks

_LAST = "last"  # key of the message about a checkpoint that is not a best one
# Number in the message hub: iterations before the checkpoint of an interruption; 0 without one.
INTERRUPTED = "interrupted_iter"
# Temporary names of ``atomic_write``: checkpoints, results, the config, texts and images.
_PART = re.compile(rf"\.part_[0-9a-f]{{16}}_(.+\.(pth|json|csv|py|md|png)|{POINTER})")


@HOOKS.register_module()
class PlainCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook for checkpoints that ``torch.load(weights_only=True)`` can read.

    Files contain only tensors, plain containers and a checksum. They are written atomically to the local file system,
    and an old checkpoint is removed only after the new one has been written. Checkpoints and ``last_checkpoint`` store
    names of other checkpoints, never paths: a resumed run removes files of its own folder only.

    A checkpoint that cannot be written (full disk, read-only disk, removed folder) is a warning, earlier ones stay, and
    the training continues.

    Args:
        max_failed_saves: the training stops after this number of failed saves in a row; 1: after the first.
        args, kwargs: those of CheckpointHook.

    Raises:
        CheckpointError: during the training, see ``max_failed_saves``; at its end if the last checkpoint is missing.
    """

    best_ckpt_path: str | None
    keep_ckpt_ids: deque[int]

    def __init__(self, *args: Any, max_failed_saves: int = 3, **kwargs: Any):
        if max_failed_saves < 1:
            raise ValueError(f"PlainCheckpointHook.max_failed_saves is {max_failed_saves}; expected at least 1")
        super().__init__(*args, backend_args=dict(ATOMIC_BACKEND), **kwargs)
        # mmengine passes unknown arguments to Runner.save_checkpoint, which fails after the first epoch.
        for key in self.args:
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument '{key}'")
        self._previous_best: dict[str, str | None] = {}
        self.max_failed_saves = max_failed_saves
        self._failed_saves = 0
        self._missing: dict[str, str] = {}  # messages about the last and the best checkpoints that were not written
        self._saved_steps = -1  # iterations before the last checkpoint

    def before_train(self, runner: Runner) -> None:
        """Find the checkpoints of a resumed run in its own folder, and remove unfinished files of a killed process."""
        super().before_train(runner)
        if is_main_process():
            for folder in {Path(self.out_dir), Path(runner.work_dir)}:
                _remove_parts(folder.glob(".part_*"))
            for log_dir in Path(runner.work_dir).glob("[0-9]*_[0-9]*"):
                # Links are not followed: they may lead to other runs.
                for parent, _, names in [] if log_dir.is_symlink() else os.walk(log_dir):
                    _remove_parts(Path(parent) / name for name in names)
        best = {key: self._own(path) for key, path in self._best().items()}
        self._set_best(best)
        for key, name in best.items():
            if name is not None:
                runner.message_hub.update_info(self._info_key(key), name)
        resumed = Path(runner._load_from).name if runner._resume and runner._load_from else ""
        if resumed and (own := Path(self.out_dir) / resumed).is_file() and own.samefile(runner._load_from):
            self.last_ckpt = str(own)
            self._saved_steps = runner.iter
            runner.message_hub.update_info("last_ckpt", self.last_ckpt)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace HistoryBuffers, NumPy scalars and paths, which cannot be loaded safely."""
        checkpoint["message_hub"] = pack_message_hub(checkpoint["message_hub"])
        for key in checkpoint.keys() - {"state_dict", "message_hub"}:
            checkpoint[key] = to_plain(checkpoint[key], key)

    def after_run(self, runner: Runner) -> None:
        """After all results have been printed, raise an error if the last checkpoint was not written."""
        if self._missing:
            raise CheckpointError(f"the training has ended, but {'; '.join(self._missing.values())}. {self._last()}")

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # mmengine removes the oldest checkpoint before it writes the new one. With max_keep_ckpts=1, a crash in between
        # would leave no checkpoint.
        self._remove_previous_best()
        hub = runner.message_hub
        kept = list(self.keep_ckpt_ids) if self.max_keep_ckpts > 0 else []
        before = self.last_ckpt, hub.get_info("last_ckpt"), hub.get_info("keep_ckpt_ids")
        outdated = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = [self.keep_ckpt_ids.popleft()]
            self.keep_ckpt_ids.append(step)
        if self.max_keep_ckpts > 0:
            # The outdated one is listed until it is removed: after a crash in between, the resumed run removes it.
            hub.update_info("keep_ckpt_ids", [*outdated, *self.keep_ckpt_ids])
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        hub.update_info("last_ckpt", self.last_ckpt)
        new = not self.file_backend.isfile(self.last_ckpt)
        try:
            self._write(runner, name, meta)
        except WriteError as error:
            if new:  # last_checkpoint could not be written
                self._remove(self.last_ckpt)
            self.last_ckpt = before[0]
            if self.max_keep_ckpts > 0:
                self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
            for key, value in zip(("last_ckpt", "keep_ckpt_ids"), before[1:], strict=True):
                _set_info(runner, key, value)
            self._missing[_LAST] = f"the checkpoint {name} was not saved: {error}"
            self._count_failure(runner, error)
            return
        self._missing.pop(_LAST, None)
        self._failed_saves = 0
        self._saved_steps = meta["iter"]
        for number in outdated:
            self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(number)))
        self._remove_interrupted(hub.get_info(INTERRUPTED, 0))
        hub.update_info(INTERRUPTED, 0)

    def _write(self, runner: Runner, name: str, meta: dict) -> None:
        """Write a checkpoint and the file that names it; raises WriteError on all ranks."""
        folder = Path(self.out_dir)
        if is_main_process() and not folder.is_dir():
            runner.logger.warning(f"{folder} has been removed. It is created again for the next checkpoint")
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
        )
        self._point_to(runner, name)

    def save_interrupted(self, runner: Runner, steps: int, force: bool = False) -> str:
        """Save the checkpoint ``iter_N.pth`` of a training that ends early; the next regular one replaces it.

        All ranks must call this.

        Args:
            steps: number of finished iterations.
            force: save also if the last checkpoint has the same number of iterations.

        Returns:
            Path of the checkpoint from which the run can continue.
        """
        if self._saved_steps == steps and self.save_optimizer and not force and self.last_ckpt is not None:
            return self.last_ckpt
        name = f"iter_{steps}.pth"
        path, hub = self.file_backend.join_path(self.out_dir, name), runner.message_hub
        before = hub.get_info(INTERRUPTED, 0)
        if path != self.last_ckpt or before == steps:  # otherwise it replaces a regular one
            hub.update_info(INTERRUPTED, steps)
        self.last_ckpt, self._saved_steps = path, steps
        hub.update_info("last_ckpt", path)
        meta = dict(epoch=runner.epoch, iter=steps)
        runner.save_checkpoint(self.out_dir, name, meta=meta, by_epoch=False, backend_args=self.backend_args)
        self._point_to(runner, name)
        self._remove_interrupted(before)
        return path

    def _point_to(self, runner: Runner, name: str) -> None:
        """Write the file that names the last checkpoint; raises WriteError on all ranks."""
        failure = None
        if is_main_process():
            try:
                AtomicLocalBackend().put_text(name, Path(runner.work_dir) / POINTER)
            except WriteError as error:
                failure = error
        raise_on_all_ranks(failure)

    def _remove_interrupted(self, steps: int) -> None:
        """Remove the checkpoint of an earlier interruption, which a newer one has replaced."""
        path = self.file_backend.join_path(self.out_dir, f"iter_{steps}.pth")
        if steps and path != self.last_ckpt:
            self._remove(path)

    def _count_failure(self, runner: Runner, error: WriteError) -> None:
        """Warn about a checkpoint that was not written, or stop."""
        self._failed_saves += 1
        if self._failed_saves >= self.max_failed_saves:
            times = f" ({self._failed_saves} failed saves in a row)" if self._failed_saves > 1 else ""
            raise CheckpointError(
                f"{self._missing[_LAST]}; the training stopped{times}. {self._last()} The limit is "
                "default_hooks.checkpoint.max_failed_saves"
            ) from error
        runner.logger.warning(
            f"{self._missing[_LAST]}. {self._last()} The training continues, and stops after {self.max_failed_saves} "
            "failed saves in a row (default_hooks.checkpoint.max_failed_saves)"
        )

    def _last(self) -> str:
        name = Path(self.last_ckpt).name if self.last_ckpt and self.file_backend.isfile(self.last_ckpt) else None
        return f"The last checkpoint is {name}." if name else "There is no checkpoint."

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        # mmengine removes the previous best checkpoint before it writes the new one.
        self._previous_best = previous = self._best()
        self._set_best(dict.fromkeys(previous))
        scores = {key: value if _is_finite(value) else None for key, value in metrics.items()}
        before = dict(runner.message_hub.runtime_info)
        try:
            super()._save_best_checkpoint(runner, scores)
        except WriteError as error:
            self._forget_best(runner, before, error)
        for key, path in self._best().items():
            if path is not None:
                self._missing.pop(key, None)
        self._set_best({key: path or previous.get(key) for key, path in self._best().items()})
        self._remove_previous_best()

    def _forget_best(self, runner: Runner, before: dict, error: WriteError) -> None:
        """The best checkpoint that could not be written is none: the next better one replaces the previous one."""
        best = self._best()
        # mmengine stores score and path before it writes the file.
        key = [key for key in (self.key_indicators if len(best) > 1 else [""]) if best[key]][-1]
        name = Path(best.pop(key) or "").name
        self._set_best({**best, key: None})
        for info in (self._info_key(key), self._info_key(key).replace("ckpt", "score", 1)):
            _set_info(runner, info, before.get(info))
        self._missing[key] = f"the checkpoint {name} was not saved: {error}"
        runner.logger.warning(f"{self._missing[key]}. The training continues")

    def _remove_previous_best(self) -> None:
        """Remove the best checkpoints that new ones have replaced, before a checkpoint names the new ones only."""
        best = self._best()
        for key, path in self._previous_best.items():
            if path is not None and best.get(key) not in (None, path):
                self._remove(path)
        self._previous_best = {}

    def _best(self) -> dict[str, str | None]:
        """Path of the best checkpoint by metric; with one metric, its key is empty."""
        if not self.save_best:
            return {}
        return dict(self.best_ckpt_path_dict) if len(self.key_indicators) > 1 else {"": self.best_ckpt_path}

    def _set_best(self, paths: dict[str, str | None]) -> None:
        if not self.save_best:
            return
        if len(self.key_indicators) > 1:
            self.best_ckpt_path_dict = dict(paths)
        else:
            self.best_ckpt_path = paths[""]

    def _info_key(self, key: str) -> str:
        return f"best_ckpt_{key}" if key else "best_ckpt"

    def _own(self, path: str | None) -> str | None:
        """Path of a checkpoint in the folder of this run."""
        return None if path is None else self.file_backend.join_path(self.out_dir, Path(path).name)

    def _remove(self, path: str) -> None:
        if is_main_process():
            with suppress(OSError):  # the disk has become read-only
                Path(path).unlink(missing_ok=True)


def _set_info(runner: Runner, key: str, value: Any) -> None:
    """Set an entry of the message hub; None removes it."""
    if value is None:
        runner.message_hub.runtime_info.pop(key, None)
    else:
        runner.message_hub.update_info(key, value)


def _is_finite(score: Any) -> bool:
    return not isinstance(score, (float, np.floating)) or math.isfinite(score)


def _remove_parts(paths: Iterable[Path]) -> None:
    """Remove the unfinished files among ``paths``."""
    for path in paths:
        if _PART.fullmatch(path.name):
            path.unlink(missing_ok=True)
