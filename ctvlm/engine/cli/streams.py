"""Output of a long run to files on a full disk, such as the output file of a Slurm job."""

from __future__ import annotations

import errno
import sys
from typing import IO, Any

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


class _Lossy:
    """A text stream that drops what cannot be written because its disk is full."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._try(self._stream.write, text) or len(text)

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @staticmethod
    def _try(call: Any, *args: Any) -> Any:
        try:
            return call(*args)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return None


def outlive_full_streams() -> None:
    """Let standard output and error of this process drop what a full disk does not accept, instead of raising."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Lossy):
            setattr(sys, name, _Lossy(stream))
