"""Worker processes of run_parallel end with their parent, and remove unfinished files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_tools.test_dist_run import LIMIT_S, is_running, pids

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals"),
    pytest.mark.slow,  # the workers import torch
    pytest.mark.usefixtures("signals_not_ignored"),
]

SCRIPT = """
import sys
from ctvlm.engine import run_tool
from ctvlm.utils.parallel import run_parallel
from tests.test_utils.test_parallel_signals import write_slowly

def main():
    for _ in run_parallel(write_slowly, [f"{sys.argv[1]}/pid_{i}" for i in range(9)], 2):
        pass

if __name__ == "__main__":
    sys.exit(run_tool(main))
"""


def write_slowly(path: str) -> None:
    from ctvlm.utils import atomic_write

    with atomic_write(f"{path}.result"):
        Path(path).write_text(str(os.getpid()))
        time.sleep(600)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_signals(repo_root, tmp_path, name):
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(repo_root)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = pids(tmp_path)
    number = getattr(signal, name)
    # A terminal sends Ctrl-C to all processes.
    (os.killpg if name == "SIGINT" else os.kill)(process.pid, number)
    err = process.communicate(timeout=LIMIT_S)[1]
    deadline = time.monotonic() + LIMIT_S
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, children))
    if name != "SIGKILL":
        assert process.returncode == 128 + number
        assert err.split() == ["interrupted", "by", name]
        assert list(tmp_path.glob(".part*")) == []
