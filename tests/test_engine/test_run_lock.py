from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ctvlm.engine.run_lock import LOCK, run_lock
from ctvlm.utils import CTVLMError

pytest.importorskip("fcntl")

HOLD = """
import sys, time
from ctvlm.engine.run_lock import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_another_process_is_named_and_its_death_releases_the_lock(tmp_path):
    folder = tmp_path / "run"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(CTVLMError, match=rf"run is in use .*process {other.pid} on ") as info, run_lock(folder):
            pass
        assert "\n" not in str(info.value)
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    with run_lock(folder), run_lock(folder):  # of one process
        assert (folder / LOCK).exists()
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_data_worker_that_outlives_the_training_does_not_hold_the_lock(tmp_path):
    # The new process closes the lock before its first own instruction, which prints its id.
    code = HOLD.replace("time.sleep", "import os\n    os.fork() or print(os.getpid(), flush=True)\n    time.sleep")
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    worker = int([other.stdout.readline() for _ in range(2)][1])
    try:
        other.kill()
        other.wait()
        with run_lock(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_new_empty_folders_are_removed(tmp_path):
    with run_lock(tmp_path / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == []
    with run_lock(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "result.json").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["result.json"]


def test_a_link_with_the_name_of_the_lock_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(victim)
    with pytest.raises(OSError), run_lock(tmp_path / "run"):
        pass
    assert victim.read_text() == "kept"
