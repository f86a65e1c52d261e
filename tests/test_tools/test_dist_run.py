"""The launcher of several processes, with small scripts instead of a training."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals"),
    pytest.mark.usefixtures("signals_not_ignored"),
]

# Seconds until a process counts as hanging: less than the sleep of the script.
LIMIT_S = 240
SCRIPT = """
import os, sys, time
from pathlib import Path
from ctvlm.utils.parent_watch import watch_parent
from ctvlm.utils.stop_signals import handle_stop_signals
rank, folder, action = int(os.environ["RANK"]), Path(sys.argv[1]), sys.argv[2]
watch_parent()
with handle_stop_signals():
    try:
        (folder / f"new_{rank}").write_text(str(os.getpid()))
        (folder / f"new_{rank}").rename(folder / f"pid_{rank}")  # complete, and a signal is caught from here on
        if action == "fail" and rank == 1:
            while not (folder / "pid_0").exists():  # the launcher would stop rank 0 before it has started
                time.sleep(0.05)
            sys.exit(7)
        if action != "end":
            time.sleep(600)
    except KeyboardInterrupt as error:
        (folder / f"saved_{rank}").touch()
        sys.exit(error.exit_code)
print(os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"], os.environ["MASTER_ADDR"], *sys.argv[3:])
"""


@pytest.fixture
def launch(repo_root, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)

    def start(action: str, **variables: str) -> subprocess.Popen:
        command = [sys.executable, "tools/dist_run.py", "2", str(tmp_path / "script.py"), str(tmp_path), action]
        environment = {**os.environ, "PYTHONPATH": str(repo_root), **variables}
        return subprocess.Popen(
            command, cwd=repo_root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def pids(folder, count=2) -> list[int]:
    """Processes of the script, when all have started."""
    for _ in range(3000):
        files = [path for path in folder.glob("pid_*") if path.read_text()]
        if len(files) == count:
            return [int(path.read_text()) for path in files]
        time.sleep(0.05)
    raise AssertionError("the processes did not start")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_environment_of_the_processes(launch):
    out, err = launch("end").communicate(timeout=LIMIT_S)
    assert sorted(out.splitlines()) == [f"2 {rank} 127.0.0.1 --launcher=pytorch" for rank in (0, 1)]
    assert err == ""


def test_other_processes_are_stopped_after_a_failure(launch, tmp_path):
    process = launch("fail")
    assert "process 1 failed with exit code 7" in process.communicate(timeout=LIMIT_S)[1]
    assert process.returncode == 7
    assert not any(map(is_running, pids(tmp_path)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signals_reach_all_processes(launch, tmp_path, number):
    process = launch("sleep")
    pids(tmp_path)
    process.send_signal(number)
    assert process.communicate(timeout=LIMIT_S)[1] == ""
    assert process.returncode == 128 + number
    assert sorted(path.name for path in tmp_path.glob("saved_*")) == ["saved_0", "saved_1"]


def test_a_killed_launcher_leaves_no_process(launch, tmp_path):
    process = launch("sleep")
    children = pids(tmp_path)
    process.kill()
    process.wait()
    deadline = time.monotonic() + LIMIT_S
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, children))
    assert sorted(path.name for path in tmp_path.glob("saved_*")) == ["saved_0", "saved_1"]


def test_port_in_use_is_one_line(launch):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = str(other.getsockname()[1])
        out, err = launch("end", PORT=port).communicate(timeout=LIMIT_S)
    assert err.splitlines() == [f"error: PORT={port}: Address already in use. Set another PORT, or none for a free one"]


@pytest.mark.parametrize(("name", "value"), [("PORT", "a"), ("PORT", "99999"), ("NNODES", "0"), ("NODE_RANK", "-1")])
def test_invalid_variables_are_one_line(launch, name, value):
    process = launch("end", **{name: value})
    err = process.communicate(timeout=LIMIT_S)[1]
    assert process.returncode == 2
    assert name in err and value in err and len(err.splitlines()) == 1
