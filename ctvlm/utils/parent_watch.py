"""End a process whose parent has ended, also if the parent was killed."""

from __future__ import annotations

import os
import signal
import threading
import time

# Set by a program for the processes that must not outlive it.
PARENT = "CTVLM_PARENT_PID"
INTERVAL_S = 1.0
GRACE_S = 60.0


def child_environment() -> dict[str, str]:
    """Environment variables for a child that calls ``watch_parent``."""
    return {PARENT: str(os.getpid())}


def watch_parent() -> None:
    """Send SIGTERM to this process when its parent ends, and end it ``GRACE_S`` seconds later.

    Does nothing unless the parent has set ``child_environment`` or is torchrun. A training ends with a checkpoint.
    """
    # Removed: it does not apply to the children of this process.
    text = os.environ.pop(PARENT, "")
    if not text.isdigit() and "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    parent = int(text) if text.isdigit() else os.getppid()
    threading.Thread(target=_watch, args=(parent,), name="parent watch", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(128 + signal.SIGTERM)
