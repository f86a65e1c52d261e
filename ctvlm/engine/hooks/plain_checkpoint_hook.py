"""Write checkpoints atomically and in a format that can be loaded safely."""

from __future__ import annotations

from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ctvlm.engine.checkpoint.files import ATOMIC_BACKEND, pack_message_hub, to_plain, unpack_message_hub
from ctvlm.registry import HOOKS


@HOOKS.register_module()
class PlainCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook for checkpoints that ``torch.load(weights_only=True)`` can read.

    Files contain only tensors and plain containers. They are written atomically to the local file system, and an old
    checkpoint is removed only after the new one has been written. The other arguments are those of CheckpointHook.
    """

    best_ckpt_path: str | None

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, backend_args=dict(ATOMIC_BACKEND), **kwargs)
        # mmengine passes unknown arguments to Runner.save_checkpoint, which fails after the first epoch.
        for key in self.args:
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument '{key}'")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace HistoryBuffers and NumPy scalars, which cannot be loaded safely."""
        checkpoint["message_hub"] = pack_message_hub(checkpoint["message_hub"])
        for key in checkpoint.keys() - {"state_dict", "message_hub"}:
            checkpoint[key] = to_plain(checkpoint[key], key)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Rebuild what ``before_save_checkpoint`` replaced."""
        if "message_hub" in checkpoint:
            checkpoint["message_hub"] = unpack_message_hub(checkpoint["message_hub"])

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # mmengine removes the oldest checkpoint before it writes the new one. With max_keep_ckpts=1, a crash in between
        # would leave no checkpoint.
        outdated = None
        limited = self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids
        if limited and len(self.keep_ckpt_ids) == self.max_keep_ckpts:
            outdated = self.keep_ckpt_ids.popleft()
        super()._save_checkpoint_with_step(runner, step, meta)
        if outdated is not None:
            self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated)))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best or len(self.save_best) > 1:
            super()._save_best_checkpoint(runner, metrics)
            return
        previous, self.best_ckpt_path = self.best_ckpt_path, None
        super()._save_best_checkpoint(runner, metrics)
        if self.best_ckpt_path is None:
            self.best_ckpt_path = previous
        elif previous not in (None, self.best_ckpt_path):
            self._remove(previous)

    def _remove(self, path: str) -> None:
        if is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)
