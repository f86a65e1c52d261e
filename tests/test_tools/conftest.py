from __future__ import annotations

import os
import runpy
import subprocess
import sys
from dataclasses import dataclass

import pytest

from ctvlm.engine import run_tool


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def tool(repo_root, monkeypatch, capsys, fresh_mmengine):
    """Runs a script of tools/ in this process, in the root folder: ``tool('train.py', 'config.py', ...)``."""

    def run(script: str, *args: object) -> Outcome:
        fresh_mmengine()
        monkeypatch.chdir(repo_root)
        monkeypatch.setattr(sys, "argv", [script, *map(str, args)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        capsys.readouterr()
        main = runpy.run_path(str(repo_root / "tools" / script))["main"]
        try:
            code = run_tool(main)
        except SystemExit as error:  # raised by argparse
            code = error.code
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def shell(repo_root):
    """Runs a command in the root folder, without a GPU."""

    def run(*command: object, **variables: str) -> Outcome:
        environment = {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **variables}
        completed = subprocess.run(
            list(map(str, command)),
            cwd=repo_root,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1800,
        )
        return Outcome(completed.returncode, completed.stdout, completed.stderr)

    return run
