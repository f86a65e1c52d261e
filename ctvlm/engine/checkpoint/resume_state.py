"""Take from a checkpoint what a resumed run needs: known entries with checked types, nothing that is executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from ctvlm.engine.checkpoint.files import CheckpointError
from ctvlm.engine.checkpoint.message_hub import unpack_message_hub

# Errors of torch's optimizers for a state of another optimizer or model.
_MISFITS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


def resume_run(runner: Runner, checkpoint: dict, path: str | Path) -> None:
    """Continue a run from a checkpoint whose weights have been loaded: counters, seed, optimizer and schedulers.

    mmengine's ``Runner.resume`` would execute the text ``meta.config`` of the checkpoint.

    Raises:
        CheckpointError: an entry is missing, has a wrong type, or does not fit the run.
    """
    meta = checkpoint["meta"]
    runner.train_loop._epoch, runner.train_loop._iter = (_count(meta, key, path) for key in ("epoch", "iter"))
    _resume_seed(runner, meta.get("seed"), path)
    if hasattr(runner.train_loop, "load_state_dict"):
        try:
            runner.train_loop.load_state_dict(checkpoint.get("run_state"))
        except CheckpointError as error:
            raise CheckpointError(f"checkpoint {path}: {error}") from error
    if "message_hub" in checkpoint:
        runner.message_hub.load_state_dict(unpack_message_hub(checkpoint["message_hub"], path))
    optimizer = checkpoint.get("optimizer")
    if not isinstance(optimizer, dict):
        raise CheckpointError(
            f"checkpoint {path} contains no optimizer state, so the run cannot continue from it. Resume from a "
            "checkpoint epoch_N.pth or iter_N.pth, or start a new run from its weights: --cfg-options load_from=FILE"
        )
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    _load_optimizer(runner.optim_wrapper, optimizer, path)
    if runner.param_schedulers:
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
        _load_schedulers(runner.param_schedulers, checkpoint.get("param_schedulers"), path)


def _count(meta: dict, key: str, path: str | Path) -> int:
    value = meta.get(key)
    if type(value) is not int or value < 0:
        raise CheckpointError(f"checkpoint {path}: meta.{key} is {value!r:.60}; expected a number of {key}s to resume")
    return value


def _resume_seed(runner: Runner, seed: Any, path: str | Path) -> None:
    if seed is None or seed == runner._randomness_cfg.get("seed"):
        return
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise CheckpointError(f"checkpoint {path}: meta.seed is {seed!r:.60}; expected a number below 2**32")
    runner._randomness_cfg.update(seed=seed)
    runner.set_randomness(**runner._randomness_cfg)


def _load_optimizer(wrapper: OptimWrapper, state: Any, path: str | Path) -> None:
    if isinstance(wrapper, OptimWrapperDict):
        for name, inner in wrapper.items():
            _load_optimizer(inner, state.get(name) if isinstance(state, dict) else None, path)
        return
    try:
        # Not the state_dict of the wrapper: that of a sharded optimizer is complete on rank 0 only.
        expected = wrapper.optimizer.param_groups
        groups = [_settings(group, now) for group, now in zip(state["param_groups"], expected, strict=True)]
        extra = [key for key in ("loss_scaler", "base_param_settings") if getattr(wrapper, key, None) is not None]
        known = {key: state[key] for key in extra if isinstance(state.get(key), dict)}
        wrapper.load_state_dict({**known, "state": _moments(state["state"]), "param_groups": groups})
    except _MISFITS as error:
        raise CheckpointError(
            f"checkpoint {path}: its optimizer state does not fit {type(wrapper.optimizer).__name__} and this model "
            f"({error}). Resume with the config of the run, or start a new run from its weights: --cfg-options "
            "load_from=FILE"
        ) from error


def _settings(group: dict, now: dict) -> dict[str, Any]:
    """Settings of a parameter group. Versions of torch differ in their flags; the missing ones keep their value."""
    found, expected = _numeric(group), _numeric(now)
    if found != expected:
        raise ValueError(f"found the settings {sorted(found)}; expected {sorted(expected)}")
    kept = {key: value for key, value in group.items() if key in now and _similar(value, now[key])}
    return {**now, **kept, "params": [int(number) for number in group["params"]]}


def _numeric(group: dict) -> set[str]:
    """Names of the settings that are numbers, such as ``betas``. Schedules add the ``initial_`` ones."""
    numbers = {key for key, value in group.items() if isinstance(value, (int, float, list, tuple)) and key != "params"}
    return {key for key in numbers if not isinstance(group[key], bool) and not key.startswith("initial_")}


def _moments(state: Any) -> dict[int, dict[str, Any]]:
    for number, moments in state.items():
        if type(number) is not int or not all(isinstance(name, str) for name in moments):
            raise TypeError(f"found the state {number!r:.60}; expected numbers of parameters and names of moments")
    return state


def _load_schedulers(schedulers: Any, states: Any, path: str | Path) -> None:
    if isinstance(schedulers, dict):
        for name, inner in schedulers.items():
            _load_schedulers(inner, states.get(name) if isinstance(states, dict) else None, path)
        return
    fitting = isinstance(states, list) and len(states) == len(schedulers) and all(isinstance(s, dict) for s in states)
    if not fitting:
        found = len(states) if isinstance(states, (list, tuple, dict)) else "no"
        raise CheckpointError(
            f"checkpoint {path}: found {found} states of learning-rate schedules; expected {len(schedulers)}, as in "
            "param_scheduler of the config"
        )
    for scheduler, state in zip(schedulers, states):
        current = scheduler.state_dict()
        scheduler.load_state_dict(
            {key: value for key, value in state.items() if key in current and _similar(value, current[key])}
        )


def _similar(value: Any, current: Any) -> bool:
    """Whether a value can replace another one: the same type, or both numbers; anything plain replaces None."""
    numbers = (int, float)
    if current is None or value is None:
        return isinstance(value, (*numbers, str, list, type(None)))
    if isinstance(current, numbers) and not isinstance(current, bool):
        return isinstance(value, numbers) and not isinstance(value, bool)
    return type(value) is type(current)
