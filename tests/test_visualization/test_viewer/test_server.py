"""Server of pages: list of cases, pages on demand, and requests that it rejects."""

from __future__ import annotations

import http.client
import threading

import pytest

from ctvlm.visualization.viewer.server import KEPT_PAGES, PageServer

from .conftest import HOSTILE


@pytest.fixture
def server():
    built = []

    def build(number: int) -> str:
        built.append(number)
        if number == 1:
            raise ValueError("mask <b>of another</b> patient")
        return f"<p>page {number}</p>"

    cases = [(HOSTILE, "a.nii.gz"), *((f"case {n}", f"{n}.nii.gz") for n in range(1, KEPT_PAGES + 2))]
    with PageServer(cases, build) as server:
        server.built = built
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def fetch(server: PageServer, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=240)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{server.server_port}"})
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_list_names_all_cases_and_escapes_them(server):
    status, text = fetch(server, "/")
    assert status == 200
    assert [f"/case/{n}" in text for n in range(len(server.cases))] == [True] * len(server.cases)
    assert "<script" not in text and "<img" not in text and "&lt;script&gt;" in text


def test_page_is_built_once_while_it_is_kept(server):
    assert fetch(server, "/case/2") == fetch(server, "/case/2") == (200, "<p>page 2</p>")
    assert server.built == [2]
    for number in range(2, KEPT_PAGES + 2):
        fetch(server, f"/case/{number}")
    fetch(server, "/case/0")
    fetch(server, "/case/2")
    assert server.built.count(2) == 2


def test_case_that_cannot_be_read_is_an_error_page(server):
    status, text = fetch(server, "/case/1")
    assert status == 500
    assert "mask &lt;b&gt;of another&lt;/b&gt; patient" in text


@pytest.mark.parametrize("path", ["/case/99", "/case/-1", "/case/x", "/case/%C2%B2", "/../etc/passwd", "/case/0/0"])
def test_unknown_address_is_not_found(server, path):
    assert fetch(server, path)[0] == 404


def test_other_host_names_are_refused(server):
    assert fetch(server, "/", "evil.example:80")[0] == 403
    assert fetch(server, "/", f"localhost:{server.server_port}")[0] == 200


def test_only_this_machine_can_connect(server):
    assert server.server_address[0] == "127.0.0.1"
