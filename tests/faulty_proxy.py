"""
A proxy in front of a real HTTP server that simulates network faults.

``faults`` is a list of ``(method, part of the path, fault)``; the first that fits a request is used up by it.
"""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

#: The connection ends before the server hears of the request.
UNHEARD = "unheard"
#: The server does what was asked, and its answer never arrives.
LOST = "lost"


@dataclass(frozen=True)
class Canned:
    """An answer in the server's place; the server hears nothing."""

    status: int
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


class FaultyProxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = urlsplit(upstream).netloc
        self.faults: list[tuple[str, str, object]] = []
        self.seen: list[tuple[str, str, object]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_fault(self, method: str, path: str) -> object:
        with self.lock:
            for place, (wanted, part, fault) in enumerate(self.faults):
                if wanted == method and part in path:
                    del self.faults[place]
                    return fault
        return None

    def count(self, method: str, part: str) -> int:
        """How many requests came for such a path."""
        return sum(seen == method and part in path for seen, path, _ in self.seen)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault(self.command, self.path)
        self.server.seen.append((self.command, self.path, fault))
        if fault == UNHEARD:
            self.close_connection = True
            return
        if isinstance(fault, Canned):
            self.answer(fault.status, {"Content-Type": "application/json", **fault.headers}, fault.body)
            return
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            upstream.request(self.command, self.path, body or None, dict(self.headers))
            response = upstream.getresponse()
            answer = response.read()
        finally:
            upstream.close()
        if fault == LOST:
            self.close_connection = True
            return
        hidden = {"content-length", "connection", "transfer-encoding", "server", "date"}
        headers = {name: value for name, value in response.getheaders() if name.lower() not in hidden}
        self.answer(response.status, headers, answer)

    do_GET = do_POST = do_DELETE = relay  # noqa: N815 - The names that http.server looks for.

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Write nothing: the test says what matters."""


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """Run a proxy before ``upstream`` as long as the block lasts."""
    with FaultyProxy(upstream) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
