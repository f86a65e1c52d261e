"""Record the code, versions, command, seed and config of each run."""

from __future__ import annotations

import math
import os
from typing import Any

from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from ctvlm.engine.checkpoint.files import write_json
from ctvlm.registry import HOOKS
from ctvlm.utils.provenance import MAX_RECORDS, known_records, run_record


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Write ``run.json`` into the folder of the log, and ``meta["runs"]`` into checkpoints.

    Both contain the version and git commit of ctvlm, the versions of packages, the command, the seed and the device,
    see ``ctvlm.utils.provenance``. ``run.json`` also contains the complete config and the current folder. A checkpoint
    contains one record per start: those of the checkpoint that was loaded, and that of this run.
    """

    def __init__(self) -> None:
        self._earlier: list[dict[str, Any]] = []
        self._record: dict[str, Any] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._earlier = known_records((checkpoint.get("meta") or {}).get("runs"))

    @master_only
    def before_train(self, runner: Runner) -> None:
        if self._record is None:
            self._record = run_record(
                seed=runner.seed,
                processes=get_world_size(),
                # Runner.iter would build the training data set for a test.
                iteration=runner._train_loop.iter if isinstance(runner._train_loop, BaseLoop) else 0,
                loaded=os.path.basename(runner._load_from) if runner._load_from else None,
            )
            content = {**self._record, "folder": os.getcwd(), "config": _jsonable(runner.cfg.to_dict())}
            write_json(os.path.join(runner.log_dir, "run.json"), content)

    before_val = before_train
    before_test = before_train

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._record is not None:
            checkpoint["meta"]["runs"] = [*self._earlier, self._record][-MAX_RECORDS:]


def _jsonable(value: Any) -> Any:
    """A config as JSON; infinity, classes and functions by their names."""
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    plain = isinstance(value, (str, int, type(None))) or isinstance(value, float) and math.isfinite(value)
    return value if plain else repr(value)
