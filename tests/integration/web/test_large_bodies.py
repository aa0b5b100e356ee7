"""A body that is far too large, or compressed, costs the real web process next to nothing."""

import gzip
import select
import socket
import time

import httpx
import pytest

from tests.processes import Machine, best_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]

SIZE = 100 * 1024 * 1024


@pytest.fixture
def web(transactional_db, tmp_path):
    machine = Machine(tmp_path)
    try:
        machine.start_web()
        yield machine
    finally:
        machine.__exit__(None, None, None)


def test_a_hundred_megabytes_are_refused_within_a_second(web):
    def seconds_to_a_refusal() -> float:
        with socket.create_connection(("127.0.0.1", web.web_port), timeout=20) as link:
            began = time.monotonic()
            link.sendall(
                b"POST /api/carts/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % SIZE
            )
            link.sendall(b" " * 65_536)
            answer = link.recv(65_536)
            taken = time.monotonic() - began
        assert answer.split(b" ")[1] == b"413", answer[:300]
        assert b"application/problem+json" in answer
        return taken

    assert best_of(seconds_to_a_refusal, below=1) < 1


@pytest.mark.fault("F106")
@pytest.mark.parametrize("path", ["/api/carts/", "/admin/login/"])
def test_f106_a_body_in_chunks_that_does_not_end_is_refused_while_it_comes(web, path):
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", web.web_port), timeout=20) as link:
        link.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        sent = 0
        while sent < SIZE and not select.select([link], [], [], 0)[0]:
            link.sendall(chunk)
            sent += len(chunk)
        answer = link.recv(65_536)

    assert answer.split(b" ")[1] == b"413", answer[:300]
    assert b"application/problem+json" in answer
    assert sent < SIZE


def test_a_packed_body_is_refused_unopened(web):
    bomb = gzip.compress(b" " * 10_000_000 + b"{}")

    answer = httpx.post(
        f"http://127.0.0.1:{web.web_port}/api/carts/",
        content=bomb,
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )

    assert answer.status_code == 415
    assert answer.headers["Content-Type"] == "application/problem+json"
