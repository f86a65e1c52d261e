"""Names of runs: the time of the start, unique in a work folder and in a process."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import torch
from mmengine.dist import broadcast, get_rank

from ctvlm.utils.atomic import write_error
from ctvlm.utils.distributed import raise_on_all_ranks

# mmengine keeps loggers and message hubs by the name of the run, also of runs in other folders.
_used: set[str] = set()


def reserve_stamp(work_dir: str | Path, time: str) -> str:
    """Create the log folder of a run, and return its name: ``time``, or ``time_01``, ``time_02`` ... if others have it.

    The first process decides for all processes of a distributed run. Every process must call this function.

    Args:
        time: start of the run to the second, the same on all processes.

    Raises:
        WriteError: on all processes, if the folder cannot be created.
    """
    number, failure = torch.zeros(1, dtype=torch.int64), None
    if get_rank() == 0:
        try:
            number[0] = _reserve(Path(work_dir), time)
        except OSError as error:
            failure = write_error(Path(work_dir) / time, error)
    raise_on_all_ranks(failure)
    broadcast(number)
    return _name(time, int(number))


def _reserve(work_dir: Path, time: str) -> int:
    """Create the first folder that does not exist yet; ``mkdir`` fails for all but one of several processes."""
    for number in count():
        name = _name(time, number)
        if name in _used:
            continue
        try:
            (work_dir / name).mkdir()
        except FileExistsError:
            continue
        _used.add(name)
        return number
    raise AssertionError


def _name(time: str, number: int) -> str:
    # The names are sorted like the starts.
    return f"{time}_{number:02d}" if number else time
