"""An HTTP server for the files of a folder that counts requests, in place of an object store."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO


class ServedFolder:
    """A folder that a process serves at ``url``. ``requests`` and ``sent_bytes`` count since the start."""

    def __init__(self, url: str, counts: Any) -> None:
        self.url, self._counts = url, counts

    @property
    def requests(self) -> int:
        """All requests, also for files that do not exist."""
        return self._counts[0]

    @property
    def sent_bytes(self) -> int:
        """Content of files."""
        return self._counts[1]


@contextmanager
def served(folder: str | Path, latency_s: float = 0.0) -> Iterator[ServedFolder]:
    """Serve a folder on this machine, from another process, until the context ends.

    Args:
        latency_s: time that each request waits.
    """
    context = multiprocessing.get_context("spawn")
    counts = context.Array("q", 2)
    port, ready = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(str(folder), latency_s, counts, ready), daemon=True)
    process.start()
    ready.close()
    try:
        yield ServedFolder(f"http://127.0.0.1:{port.recv()}", counts)
    finally:
        process.terminate()
        process.join()


def _serve(folder: str, latency_s: float, counts: Any, ready: Any) -> None:
    handler = functools.partial(_Handler, latency_s, counts, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    ready.send(server.server_port)
    server.serve_forever()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True
    wbufsize = -1  # header and content in one packet

    def __init__(self, latency_s: float, counts: Any, *args: Any, **kwargs: Any) -> None:
        self._latency_s, self._counts = latency_s, counts
        super().__init__(*args, **kwargs)

    def send_head(self) -> Any:
        with self._counts.get_lock():
            self._counts[0] += 1
        time.sleep(self._latency_s)
        return super().send_head()

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:  # type: ignore[override]
        content = source.read()
        with self._counts.get_lock():
            self._counts[1] += len(content)
        outputfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass
