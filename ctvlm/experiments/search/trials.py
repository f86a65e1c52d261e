"""Running trials: an Optuna study in a folder, each trial one training process."""

from __future__ import annotations

import json
import math
import os
import subprocess
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import torch
from mmengine.config import Config
from optuna.trial import TrialState

from ctvlm.engine.cli.config import ConfigError
from ctvlm.engine.cli.console import stdout_console
from ctvlm.experiments.search.search_space import Search
from ctvlm.utils import CTVLMError

HEARTBEAT, GRACE = 10, 60  # seconds; a trial silent for GRACE belongs to a worker that was killed
POLL = 1.0  # seconds between looks at a training process
FAILURES = 3  # in a row: the others would fail as well


class TrialError(CTVLMError):
    """A training run that ended without the metric."""


def open_study(cfg: Config, search: Search, work_dir: Path) -> optuna.Study:
    """The study in the work folder, new or gone on with.

    Raises:
        ConfigError: the folder holds a study of something else.
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
        storage=storage, study_name=Path(cfg.filename).stem, direction=search.direction, load_if_exists=True
    )
    declared = json.loads(json.dumps(cfg.tune.to_dict(), default=str))
    if study.user_attrs.setdefault("tune", declared) != declared:
        raise ConfigError(f"{work_dir} holds a search of another space or metric: name another --work-dir")
    study.set_user_attr("tune", declared)
    # A search that goes on, or a second process, must not draw the same first trials again.
    seed = cfg.get("randomness", {}).get("seed") or 0
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), constant_liar=True)
    study.pruner = optuna.pruners.MedianPruner() if search.prune else optuna.pruners.NopPruner()
    return study


class Workers:
    """Trials in as many threads as wanted, each of them waiting for one training process.

    Args:
        work_dir: gets a folder for each trial.
        command: from a trial's options (``key=value``) and its folder to the command that trains it and leaves
            ``results.json`` there.
        trials: finished trials that the study is to reach, whoever ran them.
        workers: trials at once.
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
        self.own: set[int] = set()  # numbers of the trials run here
        self.claimed = self.failed_in_a_row = 0
        self.error: str | None = None
        self.console = stdout_console()

    def run(self) -> None:
        """Run until the study has its trials.

        Raises:
            TrialError: several trials in a row have failed and none has come through.
        """
        with ThreadPoolExecutor(self.workers) as pool:
            running = [pool.submit(self._work, worker) for worker in range(self.workers)]
            try:
                for future in running:
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
        """Wait until a trial is needed; False where enough have finished. A running trial may fail, so it is waited
        for, and the one of a killed worker only until its heartbeat is missed."""
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
            self._say(trial, options, f"failed: {error}", started)
            with self.lock:
                self.failed_in_a_row += 1
                if self.failed_in_a_row >= FAILURES and self.error is None:
                    self.error = f"{FAILURES} trials in a row failed, the last with: {error}"
                    self.stop.set()
            raise
        self.failed_in_a_row = 0
        self._say(trial, options, f"{self.search.metric} {value:.4g}", started)
        return value

    def _train(self, trial: optuna.Trial, folder: Path, command: list[str], worker: int) -> float:
        """One training process: its metric. Ended early where the trial is pruned or the search stops."""
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "train.log"
        with open(log, "w", encoding="utf-8") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=self._environment(worker)
            )
            try:
                reported = 0
                while process.poll() is None:
                    if self.stop.wait(POLL):
                        raise TrialError("stopped")
                    for step, value in validations(folder, self.search.metric)[reported:]:
                        reported += 1
                        if self.search.prune:
                            trial.report(value, step)
                    if self.search.prune and reported and trial.should_prune():
                        self._say(trial, trial.user_attrs["options"], f"pruned after {reported} validations", None)
                        raise optuna.TrialPruned
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait()
        if process.returncode:
            raise TrialError(f"{last_error(log)} ({log})")
        metrics = json.loads((folder / "results.json").read_text(encoding="utf-8"))["metrics"]
        value = metrics.get(self.search.metric)
        if value is None or not math.isfinite(value):
            raise TrialError(f"{self.search.metric} is {value if self.search.metric in metrics else 'not reported'}")
        return float(value)

    def _environment(self, worker: int) -> dict[str, str]:
        """The workers share out GPUs and cores."""
        environment = {"CTVLM_DEBUG": "0", "PYTHONUNBUFFERED": "1", **os.environ}  # a log that can be watched
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.workers)))
        if (devices := torch.cuda.device_count()) > 1:
            names = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(devices)))
            environment["CUDA_VISIBLE_DEVICES"] = names.split(",")[worker % devices]
        return environment

    def _say(self, trial: optuna.Trial, options: list[str], outcome: str, started: float | None) -> None:
        seconds = "" if started is None else f"  {time.monotonic() - started:.0f} s"
        self.console.print(
            f"trial {trial.number}  {'  '.join(options)}  {outcome}{seconds}", soft_wrap=True, markup=False
        )


def validations(folder: Path, metric: str) -> list[tuple[int, float]]:
    """(epoch, value) of each validation so far, from the scalars that a run writes as it goes."""
    found = []
    for path in sorted(folder.glob("*/vis_data/scalars.json")):
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                scalars = json.loads(line)
            except json.JSONDecodeError:  # the line that is being written
                continue
            if isinstance(scalars.get(metric), float) and math.isfinite(scalars[metric]):
                found.append((int(scalars["step"]), scalars[metric]))
    return found


def last_error(log: Path) -> str:
    """What a training process said before it ended."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "no output")
