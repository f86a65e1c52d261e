"""mmengine's LoggerHook, for full disks."""

from __future__ import annotations

from mmengine.hooks import LoggerHook as MMLoggerHook
from mmengine.runner import Runner

from ctvlm.engine.log_guard import LogGuard
from ctvlm.registry import HOOKS


@HOOKS.register_module()
class LoggerHook(MMLoggerHook):
    """mmengine's LoggerHook. A test prints and writes its results also if the file of the log cannot be written."""

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        LogGuard().guarded(super().after_test_epoch, str(runner.log_dir))(runner, metrics)
