"""Run the trials of an Optuna study, each as one training process."""

from __future__ import annotations

import json
import math
import os
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, cast

import optuna
import torch
from mmengine.config import Config
from optuna.trial import TrialState

from ctvlm.engine.cli.config import ConfigError
from ctvlm.engine.cli.console import stdout_console
from ctvlm.experiments.search.search_space import Search
from ctvlm.experiments.training_process import (
    last_error,
    read_metrics,
    read_scalars,
    start_process,
    stop_process,
    threads_per_process,
)
from ctvlm.utils import CTVLMError

HEARTBEAT, GRACE = 10, 60  # seconds; a trial without a heartbeat for GRACE seconds counts as killed
POLL = 1.0  # seconds between checks of a training process
MAX_FAILURES = 3  # consecutive failures after which the search stops


class TrialError(CTVLMError):
    """A training run that ended without the metric."""


def open_study(cfg: Config, search: Search, work_dir: Path) -> optuna.Study:
    """Create the study in the work folder, or open the existing one.

    Raises:
        ConfigError: the folder contains a study with another search space or metric.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    work_dir.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{work_dir / 'study.db'}",
        engine_kwargs={"connect_args": {"timeout": 60}},
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        # The trial of a killed worker is run again, once.
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=1),
    )
    study = optuna.create_study(
        storage=storage,
        study_name=Path(cfg.filename).stem,
        direction=cast(Literal["minimize", "maximize"], search.direction),
        load_if_exists=True,
    )
    declared = json.loads(json.dumps(cfg.tune.to_dict(), default=str))
    if study.user_attrs.setdefault("tune", declared) != declared:
        raise ConfigError(f"{work_dir} contains a search with another space or metric: use another --work-dir")
    study.set_user_attr("tune", declared)
    # A resumed search, or a second process, must not sample the same first trials again.
    seed = cfg.get("randomness", {}).get("seed") or 0
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), constant_liar=True)
    study.pruner = optuna.pruners.MedianPruner() if search.prune else optuna.pruners.NopPruner()
    return study


class Workers:
    """Threads that run the trials of a study; each thread waits for one training process at a time.

    Args:
        work_dir: contains one folder per trial.
        command: builds the command of a trial from its options (``key=value``) and its folder. The command writes
            ``results.json`` to the folder.
        trials: number of finished trials to reach, including those of earlier calls and other processes.
        workers: number of parallel trials.
    """

    def __init__(
        self,
        study: optuna.Study,
        search: Search,
        work_dir: Path,
        command: Callable[[list[str], Path], list[str]],
        trials: int,
        workers: int = 1,
    ):
        self.study, self.search, self.work_dir = study, search, work_dir
        self.command, self.trials, self.workers = command, trials, workers
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.own: set[int] = set()  # numbers of the trials that this object runs
        self.claimed = self.consecutive_failures = 0
        self.error: str | None = None
        self.console = stdout_console()

    def run(self) -> None:
        """Run trials until the study has the requested number.

        Raises:
            TrialError: several consecutive trials have failed.
        """
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(self._work, worker) for worker in range(self.workers)]
            try:
                for future in futures:
                    future.result()
            finally:
                self.stop.set()
        if self.error:
            raise TrialError(self.error)

    def _work(self, worker: int) -> None:
        while self._claim():
            try:
                self.study.optimize(lambda trial: self._objective(trial, worker), n_trials=1, catch=(TrialError,))
            finally:
                with self.lock:
                    self.claimed -= 1

    def _claim(self) -> bool:
        """Wait until another trial is needed; False if enough trials have finished.

        Running trials are waited for because they may fail; the trial of a killed worker only until its heartbeat
        times out.
        """
        while not self.stop.is_set():
            with self.lock:
                optuna.storages.fail_stale_trials(self.study)
                trials = self.study.get_trials(deepcopy=False)
                finished = sum(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in trials)
                if finished >= self.trials:
                    return False
                others = sum(t.state == TrialState.RUNNING and t.number not in self.own for t in trials)
                if finished + others + self.claimed < self.trials:
                    self.claimed += 1
                    return True
            self.stop.wait(2 * POLL)
        return False

    def _objective(self, trial: optuna.Trial, worker: int) -> float:
        self.own.add(trial.number)
        folder = self.work_dir / f"trial_{trial.number:04d}"
        options = self.search.suggest(trial)
        trial.set_user_attr("options", options)
        started = time.monotonic()
        try:
            value = self._train(trial, folder, self.command(options, folder), worker)
        except TrialError as error:
            self._print(trial, options, f"failed: {error}", started)
            with self.lock:
                self.consecutive_failures += 1
                if self.consecutive_failures >= MAX_FAILURES and self.error is None:
                    self.error = f"{MAX_FAILURES} trials in a row failed, the last with: {error}"
                    self.stop.set()
            raise
        self.consecutive_failures = 0
        self._print(trial, options, f"{self.search.metric} {value:.4g}", started)
        return value

    def _train(self, trial: optuna.Trial, folder: Path, command: list[str], worker: int) -> float:
        """Run one training process and return its metric. Stops it if the trial is pruned or the search ends."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "train.log"
        process = start_process(command, log, self._environment(worker))
        try:
            reported = 0
            while process.poll() is None:
                if self.stop.wait(POLL):
                    raise TrialError("stopped")
                for step, value in read_validations(folder, self.search.metric)[reported:]:
                    reported += 1
                    if self.search.prune:
                        trial.report(value, step)
                if self.search.prune and reported and trial.should_prune():
                    self._print(trial, trial.user_attrs["options"], f"pruned after {reported} validations", None)
                    raise optuna.TrialPruned
        finally:
            if process.poll() is None:
                stop_process(process)
        if process.returncode:
            raise TrialError(f"{last_error(log)} ({log})")
        metrics = read_metrics(folder)
        result = metrics.get(self.search.metric)
        if result is None or not math.isfinite(result):
            raise TrialError(f"{self.search.metric} is {result if self.search.metric in metrics else 'not reported'}")
        return float(result)

    def _environment(self, worker: int) -> dict[str, str]:
        """Environment variables that divide GPUs and CPU cores among the workers."""
        environment = {"CTVLM_DEBUG": "0", "PYTHONUNBUFFERED": "1", **os.environ}  # unbuffered: readable while it runs
        environment.setdefault("OMP_NUM_THREADS", str(threads_per_process(self.workers)))
        if (devices := torch.cuda.device_count()) > 1:
            names = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(devices)))
            environment["CUDA_VISIBLE_DEVICES"] = names.split(",")[worker % devices]
        return environment

    def _print(self, trial: optuna.Trial, options: list[str], outcome: str, started: float | None) -> None:
        seconds = "" if started is None else f"  {time.monotonic() - started:.0f} s"
        self.console.print(
            f"trial {trial.number}  {'  '.join(options)}  {outcome}{seconds}", soft_wrap=True, markup=False
        )


def read_validations(folder: Path, metric: str) -> list[tuple[int, float]]:
    """(step, value) of each finite value of a metric that a run has logged so far."""
    return [
        (int(scalars["step"]), scalars[metric])
        for scalars in read_scalars(folder)
        if isinstance(scalars.get(metric), float) and math.isfinite(scalars[metric])
    ]
