"""List the training cases that could not be read."""

from __future__ import annotations

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ctvlm.registry import HOOKS
from ctvlm.utils.bad_cases import skipping
from ctvlm.utils.terminal_text import printable


@HOOKS.register_module()
class BadCasesHook(Hook):
    """Log the cases that data sets with ``bad_cases="skip"`` have replaced, after each epoch and at the end.

    Their number in all processes is ``bad_cases`` of the message hub. CTVLMRunner adds this hook as
    ``default_hooks.bad_cases``.
    """

    priority = "LOW"

    def __init__(self) -> None:
        self._listed: set[str] = set()

    def after_train_epoch(self, runner: Runner) -> None:
        datasets = skipping(runner.train_dataloader.dataset)
        if not datasets:
            return
        own = [case for dataset in datasets for case in dataset.bad_case_ids()]
        found = {case for ids in all_gather_object(own) for case in ids}
        runner.message_hub.update_info("bad_cases", len(found))
        if found - self._listed:
            self._listed = found
            listed = ", ".join(printable(case) for case in sorted(found))
            runner.logger.warning(f"{len(found)} training cases cannot be read and were replaced by others: {listed}")
