from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from ctvlm.engine import run_tool
from ctvlm.utils.stop_signals import STOP_SIGNALS, Interrupted, defer_stop_signals, handle_stop_signals, stop_requested

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals"),
    pytest.mark.usefixtures("signals_not_ignored"),
]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_tool_ends_in_one_line_with_the_code_of_the_signal(name, capsys):
    number = getattr(signal, name)
    before = [signal.getsignal(one) for one in STOP_SIGNALS]
    assert run_tool(lambda: os.kill(os.getpid(), number) or time.sleep(30)) == 128 + number
    captured = capsys.readouterr()
    assert captured.out + captured.err.strip() == f"interrupted by {name}"
    assert [signal.getsignal(one) for one in STOP_SIGNALS] == before


def test_ignored_signals_stay_ignored():
    """nohup ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_stop_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop_requested()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_deferred_signals_do_not_raise_and_repeated_ones_count_once(capfd):
    with handle_stop_signals():
        with defer_stop_signals():
            for number in (signal.SIGUSR1, signal.SIGTERM):
                os.kill(os.getpid(), number)
        assert stop_requested() == signal.SIGUSR1
    assert not stop_requested()
    assert capfd.readouterr().err.count("SIGUSR1: ending after this step") == 1
    with handle_stop_signals(), pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGTERM)


SECOND = """
import os, sys, time
from ctvlm.utils.stop_signals import *
with handle_stop_signals(), defer_stop_signals():
    print("ready", flush=True)
    while True:
        time.sleep(60)
"""


def test_a_second_signal_ends_the_process():
    process = subprocess.Popen([sys.executable, "-c", SECOND], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert [process.stderr.readline() for _ in range(2)][1].startswith(b"SIGTERM: ending")
    time.sleep(1.2)  # since the first signal was handled: a repeated one counts from 1 s on
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 128 + signal.SIGTERM
