"""Hook that limits predictions to those that metrics read."""

from __future__ import annotations

from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ctvlm.engine.model_wrapper import unwrap_model
from ctvlm.evaluation import needed_keys
from ctvlm.registry import HOOKS


@HOOKS.register_module()
class PredictionKeysHook(Hook):
    """Call ``model.set_predictions(keys)`` with the union of the metrics' ``needs`` before validation and test.

    ``keys`` is None (all predictions) if a metric does not declare ``needs``. Models without ``set_predictions`` are
    not affected.
    """

    def before_val_epoch(self, runner: Runner) -> None:
        self._set_predictions(runner, runner.val_loop.evaluator)

    def before_test_epoch(self, runner: Runner) -> None:
        self._set_predictions(runner, runner.test_loop.evaluator)

    @staticmethod
    def _set_predictions(runner: Runner, evaluator: Evaluator) -> None:
        model = unwrap_model(runner.model)
        if hasattr(model, "set_predictions"):
            model.set_predictions(needed_keys(evaluator.metrics))
