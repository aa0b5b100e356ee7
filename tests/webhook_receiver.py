"""Somebody else's server that takes webhooks, and checks their signatures in a few lines of its own."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(ThreadingHTTPServer):
    """Answers ``answers`` one after the other, and 200 after that; each is a status, or a function of the handler."""

    daemon_threads = True

    def __init__(self, listener=None):
        super().__init__(("127.0.0.1", 0), Handler)
        if listener is not None:
            self.socket.close()
            self.socket = listener
        self.answers = []
        self.taken = []

    def handle_error(self, request, client_address):
        """Say nothing of a shop that hung up: tests see to it that it does."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/hooks?shop=1"

    @property
    def ids(self):
        return [headers["webhook-id"] for headers, _ in self.taken]

    @property
    def events(self):
        return [json.loads(body)["type"] for _, body in self.taken]


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.headers, body))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        if callable(answer):
            answer(self)
            return
        self.send_response(answer)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"heard")

    def log_message(self, *_):
        pass


@contextmanager
def receiver(listener=None) -> Iterator[Receiver]:
    with Receiver(listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def is_genuine(headers, body, secret) -> bool:
    """Whether a message is signed with ``secret``, as Standard Webhooks has it."""
    signed = b"%s.%s.%s" % (headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body)
    key = base64.b64decode(secret.split("_")[1])
    wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return wanted in headers["webhook-signature"].split(" ")
