"""Processes that train one step on request."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ctvlm.utils import CTVLMError

SCRIPT = Path(__file__).with_name("training_step.py")


class StepProcess:
    """A process that trains one step on request, or several of them as ranks. As a context manager, it ends them.

    Args:
        cases: number of different cases of a rank.
        log: file for the messages of the process. Further ranks append their number to its name.
        tree: source tree whose modules are used; None: those of this process.
        options: options of the config.
        environment: further environment variables.
        ranks: number of processes, which train one step together (gloo on the CPU).

    Attributes:
        ready: result before the first step.

    Raises:
        CTVLMError: the process has failed; the message is the last line of its log.
    """

    def __init__(
        self,
        config: Path,
        device: str,
        cases: int,
        log: Path,
        tree: Path | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
        environment: Mapping[str, str] = MappingProxyType({}),
        ranks: int = 1,
    ) -> None:
        paths = [str(tree or Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
        common = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)}
        launcher = "none" if ranks == 1 else "pytorch"
        command = [sys.executable, str(SCRIPT), str(config), device, str(cases), json.dumps(dict(options)), launcher]
        self.processes: dict[Any, tuple[subprocess.Popen, Path]] = {}  # by the pipe of its results
        try:
            for number, variables in enumerate(_rank_variables(ranks)):
                own_log = log.with_name(f"{log.name}.{number}") if number else log
                with own_log.open("w") as messages:
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=messages,
                        text=True,
                        env=common | variables,
                    )
                self.processes[process.stdout] = process, own_log
            self.ready = self._read()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> StepProcess:
        return self

    def __exit__(self, *error: object) -> None:
        for process, _ in self.processes.values():
            process.kill()
        for process, _ in self.processes.values():
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    if pipe:
                        pipe.close()

    def step(self) -> dict[str, float]:
        """Train one step. Returns its result, see TrainingStep.run; of several ranks, the largest values."""
        for process, _ in self.processes.values():
            with suppress(BrokenPipeError):  # reading states the cause
                print("step", file=process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, float]:
        waiting, results = list(self.processes), []
        while waiting:
            # The first one that ends has the cause: the others fail because they lose it.
            for pipe in wait(waiting):
                line = pipe.readline()  # type: ignore[union-attr]
                if not line:
                    reason = self.processes[pipe][1].read_text(errors="replace").strip().rpartition("\n")[2]
                    raise CTVLMError(f"a process that trains a step has failed: {reason or 'it was killed'}")
                results.append(json.loads(line))
                waiting.remove(pipe)
        return {key: max(result[key] for result in results) for key in results[0]}


def _rank_variables(ranks: int) -> list[dict[str, str]]:
    """Environment variables of each rank; none for a single process."""
    if ranks == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = dict(WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    return [dict(common, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(ranks)]
