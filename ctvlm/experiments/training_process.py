"""Training runs as child processes: start and stop them, and read what they write."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ctvlm.utils.parent_watch import child_environment

_ERROR = re.compile(r"(error|[\w.]*(Error|Exception)):")


def start_process(command: Sequence[str], log: Path, environment: dict[str, str]) -> subprocess.Popen:
    """Start a tool in its own process group; its output goes to ``log``. It ends when this process ends."""
    with open(log, "w", encoding="utf-8") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**environment, **child_environment()},
            start_new_session=True,  # so that stop_process also ends the data workers
        )


def stop_process(process: subprocess.Popen, timeout_s: float = 5) -> None:
    """End a process and its children: SIGTERM, then SIGKILL after ``timeout_s`` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def threads_per_process(processes: int) -> int:
    """Number of CPU threads for each of several parallel processes."""
    return max(1, (os.cpu_count() or 1) // processes)


def read_scalars(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the logged scalars of a run; an incomplete last line is skipped, because the run may still be writing."""
    for path in sorted(folder.glob("*/vis_data/scalars.json")):
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def read_metrics(folder: Path) -> dict[str, Any]:
    """Metrics of the last validation of a finished run."""
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["metrics"]


def last_error(log: Path) -> str:
    """The last error message of a log, or its last line if it contains no error message."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or [line for line in lines if line] or ["no output"])[-1]
