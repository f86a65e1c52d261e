"""Scalars that a run has written: ``vis_data/scalars.json``."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctvlm.utils import CTVLMError

# Keys of a line that are not metrics.
POSITION = ("step", "iter", "epoch")


@dataclass(frozen=True)
class RunLog:
    """Lines of a training log, as dicts: ``train`` (per logged iteration) and ``val`` (per validation)."""

    path: Path
    train: list[dict]
    val: list[dict]

    @property
    def keys(self) -> list[str]:
        """Metrics of the log, in order."""
        keys = dict.fromkeys(key for row in (*self.train, *self.val) for key, value in row.items() if _is_number(value))
        return [key for key in keys if key not in POSITION]

    def curve(self, key: str) -> tuple[list[float], list[float], str]:
        """x and y values of a metric, and the meaning of x: iteration of training, or epoch of validation."""
        in_training = any(key in row for row in self.train)
        rows = [row for row in (self.train if in_training else self.val) if _is_number(row.get(key))]
        return [row["step"] for row in rows], [row[key] for row in rows], "iteration" if in_training else "epoch"


def read_run_log(path: str | Path) -> RunLog:
    """Read a ``scalars.json``, or that of the newest run of a work folder.

    If a run was resumed in the same file, the last line of an iteration counts. The unfinished last line of a killed
    run is ignored.

    Raises:
        CTVLMError: no log, or a line that is not JSON.
    """
    path = Path(path)
    file = path
    if path.is_dir():
        # Folders of runs are named by their time. A test also writes a log, without iterations.
        found = sorted(path.rglob("vis_data/scalars.json"))
        if not found:
            raise CTVLMError(f"{path}: found no vis_data/scalars.json; expected the work folder of a training run")
        file = next((log for log in reversed(found) if '"iter"' in log.read_text(encoding="utf-8")), found[-1])
    elif not path.is_file():
        raise CTVLMError(f"{path}: no such file or folder; expected a work folder or a scalars.json")
    rows: list[dict] = []
    *lines, unfinished = file.read_text(encoding="utf-8").split("\n")
    with suppress(ValueError):
        json.loads(unfinished)
        lines.append(unfinished)
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise CTVLMError(f"{file}, line {number}: found {line[:60]!r}; expected one JSON object") from error
            if not isinstance(row, dict):
                raise CTVLMError(f"{file}, line {number}: found {line[:60]!r}; expected one JSON object")
            rows.append(row)
    train = {row["step"]: row for row in rows if "iter" in row and "step" in row}
    val = {row["step"]: row for row in rows if "iter" not in row and "step" in row}
    return RunLog(file, [train[step] for step in sorted(train)], [val[step] for step in sorted(val)])


def train_times(log: RunLog) -> dict[int, float]:
    """Mean seconds per iteration of each epoch. The first logged line of a log is left out: it includes the start.

    Raises:
        CTVLMError: the log has no times.
    """
    epochs: dict[int, list[float]] = {}
    timed = [row for row in log.train if "time" in row]
    for row in timed[1:] or timed:
        epochs.setdefault(int(row.get("epoch", 0)), []).append(row["time"])
    if not epochs:
        raise CTVLMError(f"{log.path}: found no 'time' of training iterations; expected the log of a training run")
    return {epoch: float(np.mean(times)) for epoch, times in epochs.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
