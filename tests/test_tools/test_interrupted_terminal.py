"""After a signal, the terminal has its cursor, and one line says how the run ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

import pytest

pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("signals_not_ignored")]

TOY = "tests/test_engine/toy_config.py"
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


def run_in_terminal(command, cwd, until: bytes, act) -> tuple[bytes, int]:
    """Output and exit code of a command in a terminal; ``act(terminal, process)`` is called after ``until``."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=cwd,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env={**os.environ, "TERM": "xterm", "CUDA_VISIBLE_DEVICES": ""},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C of this terminal reaches the process
    )
    os.close(inside)
    output, acted, deadline = b"", False, time.monotonic() + 1200
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                output += os.read(terminal, 65536)
            except OSError:  # the last process has closed the terminal
                break
        if not acted and until in output:
            act(terminal, process)
            acted = True
    return output, process.wait(300)


def press_ctrl_c(terminal, process) -> None:
    os.write(terminal, b"\x03")


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_in_a_training_with_data_workers(repo_root, tmp_path, processes):
    start = [sys.executable, *(["tools/dist_run.py", processes] if processes > 1 else []), "tools/train.py", TOY]
    options = ["model.seconds=0.4", "train_dataloader.num_workers=1", "train_cfg.max_epochs=100"]
    command = [*start, "--work-dir", tmp_path / "run", "--cfg-options", *options]
    output, code = run_in_terminal(command, repo_root, b"epoch 2/100", press_ctrl_c)
    assert code == 130, output[-2000:]
    assert output.rindex(SHOW) > output.rindex(HIDE)
    assert output.count(b"interrupted by SIGINT after step") == 1
    assert b"Traceback" not in output
    assert list((tmp_path / "run").glob("iter_*.pth")) or list((tmp_path / "run").glob("epoch_*.pth"))
    assert not list((tmp_path / "run").glob(".*"))


def test_sigterm_in_preprocess(repo_root, tmp_path):
    write = [sys.executable, "tools/dataset_converters/write_phantom.py", tmp_path / "ct"]
    subprocess.run([*map(str, write), "--num-cases", "6", "--shape", "32", "64", "64"], cwd=repo_root, check=True)
    command = [sys.executable, "tools/preprocess.py", tmp_path / "ct" / "manifest.jsonl", tmp_path / "store"]
    output, code = run_in_terminal(
        [*command, "--spacing", 1, 0.5, 0.5],
        repo_root,
        b"preprocessing",
        lambda terminal, process: process.send_signal(signal.SIGTERM),
    )
    assert code == 143, output[-2000:]
    assert output.rindex(SHOW) > output.rindex(HIDE)
    assert output.strip().endswith(b"interrupted by SIGTERM") and b"Traceback" not in output
    assert not list((tmp_path / "store").rglob("*.part*"))
