"""Skip training steps with NaN or infinity, and stop a training that has diverged."""

from __future__ import annotations

from typing import Any

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from ctvlm.engine.optim.step_guard import MIN_SCALE, StepGuard
from ctvlm.registry import HOOKS
from ctvlm.utils import CTVLMError
from ctvlm.utils.terminal_text import printable

_LISTED = 16  # cases that a message lists


class NonFiniteError(CTVLMError):
    """The loss or gradient of several steps in a row was NaN or infinite."""


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Skip each step with a non-finite loss or gradient, and log its cases; all ranks skip the same steps.

    The number of skipped steps is ``skipped_steps`` of the message hub, and is logged at the end. The losses of a
    skipped step are not logged. CTVLMRunner adds this hook as ``default_hooks.non_finite``.

    Args:
        max_consecutive: the training stops after this number of skipped steps in a row.

    Raises:
        NonFiniteError: during the training, see ``max_consecutive``; or a loss scaler finds no scale.
    """

    # Before the hook that logs the losses.
    priority = "HIGHEST"

    def __init__(self, max_consecutive: int = 10) -> None:
        if max_consecutive < 1:
            raise ValueError(f"NonFiniteHook.max_consecutive is {max_consecutive}; expected at least 1")
        self.max_consecutive = max_consecutive
        self._guards: list[StepGuard] = []
        self._batches: list[list[str]] = []

    def before_train(self, runner: Runner) -> None:
        wrapper = runner.optim_wrapper
        wrappers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        self._guards = [StepGuard(one) for one in wrappers]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._batches.append(_case_ids(data_batch))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if all(guard.skipped is None for guard in self._guards):
            return  # gradients are accumulated
        if any(guard.skipped for guard in self._guards):
            self._report(runner, self._suspects())
            if isinstance(outputs, dict):
                outputs.clear()
        elif any(guard.is_scale_exhausted() for guard in self._guards):
            raise NonFiniteError(
                f"the loss scale has fallen below {MIN_SCALE} at step {runner.iter + 1}: the gradients are not finite "
                "with any scale; the training stopped. Lower the learning rate, or train without mixed precision, and "
                "resume from an earlier checkpoint"
            )
        else:
            runner.message_hub.update_info("consecutive_skipped_steps", 0)
        self._batches = []

    def after_train(self, runner: Runner) -> None:
        if skipped := runner.message_hub.get_info("skipped_steps", 0):
            runner.logger.warning(
                f"{skipped} of {runner.iter} steps were skipped, because their loss or gradient was not finite; "
                "the log lists their cases"
            )

    def _report(self, runner: Runner, cases: list[str]) -> None:
        hub = runner.message_hub
        total, row = (hub.get_info(key, 0) + 1 for key in ("skipped_steps", "consecutive_skipped_steps"))
        hub.update_info("skipped_steps", total)
        hub.update_info("consecutive_skipped_steps", row)
        step = runner.iter + 1
        listed = ", ".join(cases[:_LISTED]) + (f" and {len(cases) - _LISTED} more" if len(cases) > _LISTED else "")
        if row >= self.max_consecutive:
            raise NonFiniteError(
                f"the loss or gradient of {row} steps in a row (the last: step {step}) was not finite; the training "
                f"stopped. Cases of the last one: {listed}. Check these cases, lower the learning rate, or train "
                "without mixed precision, and resume from the last checkpoint. The limit is "
                "default_hooks.non_finite.max_consecutive"
            )
        runner.logger.warning(f"step {step} skipped: its loss or gradient is not finite. Its cases: {listed}")

    def _suspects(self) -> list[str]:
        """Cases of the batches of all ranks whose loss was not finite; all cases if only the gradient was not."""
        finite = [bool(flag) for guard in self._guards for flag in guard.finite][: len(self._batches)]
        batches = list(zip(self._batches, finite))
        own = [batch for batch, ok in batches if not ok]
        ranks = all_gather_object((own, self._batches))
        chosen = [batch for broken, _ in ranks for batch in broken] or [batch for _, every in ranks for batch in every]
        return [case for batch in chosen for case in batch] or ["unknown (the data samples have no case_id)"]


def _case_ids(data_batch: Any) -> list[str]:
    samples = data_batch.get("data_samples") if isinstance(data_batch, dict) else None
    cases = []
    for sample in samples if isinstance(samples, (list, tuple)) else ():
        case = sample.get("case_id") if hasattr(sample, "get") else getattr(sample, "case_id", None)
        if case is not None:
            cases.append(printable(case))
    return cases
