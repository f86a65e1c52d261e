"""Errors of a process of distributed training whose cause is another process."""

from __future__ import annotations

import os
import re

# Texts of gloo, NCCL and the store of torch.distributed.
_LOST = re.compile(
    r"Connection (closed|reset) by peer|Broken pipe|Connection refused|connection was (closed|aborted)|"
    r"remote process exited|failed to recv|Failed to (send|recv)|gloo/transport|NCCL communicator was aborted"
)
_TIMEOUT = re.compile(r"[Tt]imed out (waiting|after)|[Ww]ait timeout|Watchdog caught collective operation timeout")


def peer_message(error: Exception) -> str | None:
    """Message if a process lost the connection to another one or waited too long for it; otherwise None."""
    if not isinstance(error, RuntimeError) or int(os.environ.get("WORLD_SIZE", 1)) < 2:
        return None
    text = str(error)
    if _TIMEOUT.search(text):
        return (
            "another process did not answer in time: it hangs, or is much slower. The limit in seconds is "
            "env_cfg.dist_cfg.timeout"
        )
    return "another process has ended; its message names the cause" if _LOST.search(text) else None


def is_lost_connection(error: Exception) -> bool:
    """Whether the other process prints the cause."""
    return peer_message(error) is not None and not _TIMEOUT.search(str(error))
