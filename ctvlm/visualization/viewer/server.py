"""Serve pages to a browser on this machine."""

from __future__ import annotations

import html
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from string import Template

from ctvlm.visualization.viewer.html import asset

HOST = "127.0.0.1"
# Pages that are kept in memory, about 15 MB each.
KEPT_PAGES = 8
# The list of cases has no scripts, and loads nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


class PageServer(ThreadingHTTPServer):
    """HTTP server with a list of cases at ``/`` and the page of case number n at ``/case/n``.

    Only this machine can connect. Pages are built one at a time, when they are first opened.

    Args:
        cases: id and description of each case.
        build: page (HTML) of the case with this number. An exception is printed and becomes an error page.
        port: 0 chooses a free port; see ``address``.

    Raises:
        OSError: the port is in use.
    """

    daemon_threads = True

    def __init__(self, cases: Sequence[tuple[str, str]], build: Callable[[int], str], port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.cases, self._build = list(cases), build
        self._pages: OrderedDict[int, str] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def list_page(self) -> str:
        rows = "\n".join(
            f'<li><a href="/case/{number}"><b>{html.escape(case)}</b><span>{html.escape(about)}</span></a></li>'
            for number, (case, about) in enumerate(self.cases)
        )
        note = "<p>A page is built when it is opened, which takes some seconds.</p>"
        return plain_page(f"{len(self.cases)} CTs", f"{note}\n<ol>\n{rows}\n</ol>")

    def case_page(self, number: int) -> str:
        """Page of a case, built on the first call. Raises what ``build`` raises."""
        with self._lock:
            if number not in self._pages:
                self._pages[number] = self._build(number)
                while len(self._pages) > KEPT_PAGES:
                    self._pages.popitem(last=False)
            self._pages.move_to_end(number)
            return self._pages[number]


def plain_page(title: str, content: str) -> str:
    """A page without scripts. ``content`` is HTML."""
    return Template(asset("plain.html")).substitute(title=title, content=content, style=asset("plain.css"))


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        # A page of another site, whose name resolves to this machine, must not read the cases.
        if self.headers.get("Host", "").partition(":")[0] not in (HOST, "localhost"):
            return self._send(HTTPStatus.FORBIDDEN, "Open the address that ctvlm view printed.")
        if self.path == "/":
            return self._send(HTTPStatus.OK, self.server.list_page())
        prefix, _, number = self.path.rpartition("/")
        if prefix != "/case" or number not in map(str, range(len(self.server.cases))):
            return self._send(HTTPStatus.NOT_FOUND, "This page does not exist.")
        try:
            self._send(HTTPStatus.OK, self.server.case_page(int(number)))
        except Exception as error:  # any failure of one case; the other pages stay available
            traceback.print_exc()
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, f"{self.server.cases[int(number)][0]}: {error}")

    def _send(self, status: HTTPStatus, text: str) -> None:
        if status != HTTPStatus.OK:
            message = f'<p>{html.escape(text)}</p>\n<p><a href="/">All cases</a></p>'
            text = plain_page("This page cannot be shown", message)
        body = text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        if "<script" not in text:
            self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        # The browser may have left the page.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """No line per request."""
