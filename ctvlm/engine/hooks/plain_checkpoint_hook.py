"""Write checkpoints atomically and in a format that can be loaded safely."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ctvlm.engine.checkpoint.files import ATOMIC_BACKEND, AtomicLocalBackend, to_plain
from ctvlm.engine.checkpoint.last import POINTER
from ctvlm.engine.checkpoint.message_hub import pack_message_hub
from ctvlm.registry import HOOKS

# Temporary names of ``atomic_write``.
_PART = re.compile(rf"\.part_[0-9a-f]{{16}}_(.+\.(pth|json)|{POINTER})")


@HOOKS.register_module()
class PlainCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook for checkpoints that ``torch.load(weights_only=True)`` can read.

    Files contain only tensors, plain containers and a checksum. They are written atomically to the local file system,
    and an old checkpoint is removed only after the new one has been written. Checkpoints and ``last_checkpoint`` store
    names of other checkpoints, never paths: a resumed run removes files of its own folder only. The other arguments
    are those of CheckpointHook.
    """

    best_ckpt_path: str | None

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, backend_args=dict(ATOMIC_BACKEND), **kwargs)
        # mmengine passes unknown arguments to Runner.save_checkpoint, which fails after the first epoch.
        for key in self.args:
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument '{key}'")
        self._previous_best: dict[str, str | None] = {}

    def before_train(self, runner: Runner) -> None:
        """Find the checkpoints of a resumed run in its own folder, and remove unfinished files of a killed process."""
        super().before_train(runner)
        if is_main_process():
            for folder in {Path(self.out_dir), Path(runner.work_dir)}:
                for path in folder.glob(".part_*"):
                    if _PART.fullmatch(path.name):
                        path.unlink(missing_ok=True)
        best = {key: self._own(path) for key, path in self._best().items()}
        self._set_best(best)
        for key, path in best.items():
            if path is not None:
                runner.message_hub.update_info(self._info_key(key), path)
        resumed = Path(runner._load_from).name if runner._resume and runner._load_from else ""
        if resumed and (own := Path(self.out_dir) / resumed).is_file() and own.samefile(runner._load_from):
            self.last_ckpt = str(own)
            runner.message_hub.update_info("last_ckpt", self.last_ckpt)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace HistoryBuffers, NumPy scalars and paths, which cannot be loaded safely."""
        checkpoint["message_hub"] = pack_message_hub(checkpoint["message_hub"])
        for key in checkpoint.keys() - {"state_dict", "message_hub"}:
            checkpoint[key] = to_plain(checkpoint[key], key)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # mmengine removes the oldest checkpoint before it writes the new one. With max_keep_ckpts=1, a crash in between
        # would leave no checkpoint.
        self._remove_previous_best()
        outdated = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = [self.keep_ckpt_ids.popleft()]
            self.keep_ckpt_ids.append(step)
        if self.max_keep_ckpts > 0:
            # The outdated one is listed until it is removed: after a crash in between, the resumed run removes it.
            runner.message_hub.update_info("keep_ckpt_ids", [*outdated, *self.keep_ckpt_ids])
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
        )
        if is_main_process():
            AtomicLocalBackend().put_text(name, Path(runner.work_dir) / POINTER)
        for number in outdated:
            self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(number)))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        # mmengine removes the previous best checkpoint before it writes the new one.
        self._previous_best = previous = self._best()
        self._set_best(dict.fromkeys(previous))
        super()._save_best_checkpoint(
            runner, {key: value if _is_finite(value) else None for key, value in metrics.items()}
        )
        self._set_best({key: path or previous.get(key) for key, path in self._best().items()})
        self._remove_previous_best()

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
        if is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)


def _is_finite(score: Any) -> bool:
    return not isinstance(score, (float, np.floating)) or math.isfinite(score)
