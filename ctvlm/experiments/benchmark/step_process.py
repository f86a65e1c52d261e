"""A process that trains one step on request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ctvlm.utils import CTVLMError

SCRIPT = Path(__file__).with_name("training_step.py")


class StepProcess:
    """A process that trains one step on request. As a context manager, it ends the process.

    Args:
        cases: number of different cases.
        log: file for the messages of the process.
        tree: source tree whose modules are used; None: those of this process.
        options: options of the config.
        environment: further environment variables.

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
    ) -> None:
        self.log = log
        paths = [str(tree or Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
        with log.open("w") as messages:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), str(config), device, str(cases), json.dumps(dict(options))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
                env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)},
            )
        try:
            self.ready = self._read()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> StepProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                if pipe:
                    pipe.close()

    def step(self) -> dict[str, float]:
        """Train one step. Returns its result, see TrainingStep.run."""
        with suppress(BrokenPipeError):  # reading states the cause
            print("step", file=self.process.stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, float]:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            reason = self.log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise CTVLMError(f"a process that trains a step has failed: {reason or 'it was killed'}")
        return json.loads(line)
