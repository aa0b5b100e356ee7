"""
A webhook receiver for development: shows messages from the shop, and whether their signatures are valid.

Started by ``run.py`` alongside the shop: ``python -m launcher.catcher PORT SECRET_FILE``. It listens on the loopback
address, keeps the last messages in memory, and answers 204; below ``/fail`` it answers 500, so that retries can be
watched. ``seed_demo --catcher`` subscribes it and writes its secret into the file.
"""

import base64
import hmac
import json
import sys
from collections import deque
from datetime import datetime
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

#: How many messages are kept, and how many bytes of a body are read.
KEPT, LARGEST = 200, 262_144
#: Path below which messages are refused.
FAILING: Final = "/fail"
PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="3">
<title>Webhooks caught</title>
<style>body{{font:15px system-ui;margin:2rem;max-width:70rem}}
td,th{{text-align:left;padding:.3rem 1rem .3rem 0;vertical-align:top}}pre{{white-space:pre-wrap;margin:0}}</style>
<h1>Webhooks caught</h1><p>Newest first; the last {kept} are kept. This page reloads automatically.</p>
<table><tr><th>at<th>event<th>webhook-id<th>signature<th>answer<th>body</tr>{rows}</table></html>"""


class Catcher(ThreadingHTTPServer):
    """Stores received messages in ``caught``, newest first."""

    daemon_threads = True

    def __init__(self, port: int, secret_file: Path) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.secret_file = secret_file
        self.caught: deque[dict[str, Any]] = deque(maxlen=KEPT)
        own = self.server_address[1]
        #: A page of another site whose name resolves to this address gets no answer.
        self.names = {f"127.0.0.1:{own}", f"localhost:{own}"}


class Handler(BaseHTTPRequestHandler):
    server: Catcher
    timeout = 10

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST:
            self._answer(413, "text/plain", b"A message has a Content-Length, of at most 256 KiB.\n")
            return
        body = self.rfile.read(int(length))
        status = 500 if self.path.startswith(FAILING) else 204
        self.server.caught.appendleft(
            {
                "at": datetime.now().astimezone().isoformat(timespec="milliseconds"),
                "id": self.headers.get("webhook-id", ""),
                "genuine": is_genuine(self.headers, body, self._secret()),
                "answered": status,
                "body": body.decode(errors="replace"),
            }
        )
        self._answer(status, "text/plain", b"")

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.names:
            self._answer(403, "text/plain", b"Open this page by its address.\n")
        elif self.path == "/caught.json":
            self._answer(200, "application/json", json.dumps(list(self.server.caught)).encode())
        elif self.path == "/":
            self._answer(200, "text/html; charset=utf-8", page(list(self.server.caught)).encode())
        else:
            self._answer(404, "text/plain", b"There is / and /caught.json.\n")

    def _secret(self) -> str:
        try:
            return self.server.secret_file.read_text().strip()
        except OSError:
            return ""

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing: the page shows it."""


def is_genuine(headers: Any, body: bytes, secret: str) -> bool:
    """Whether a message is signed with ``secret``, as Standard Webhooks specifies."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    signatures = headers.get("webhook-signature", "").split(" ")
    return bool(key) and any(hmac.compare_digest(wanted.encode(), each.encode()) for each in signatures)


def page(caught: list[dict[str, Any]]) -> str:
    """Return the page that shows messages."""
    rows = []
    for each in caught:
        cells = [each["at"], _event(each["body"]), each["id"], "good" if each["genuine"] else "not ours"]
        cells += [str(each["answered"])]
        row = "".join(f"<td>{escape(cell)}" for cell in cells)
        rows.append(f"<tr>{row}<td><pre>{escape(_indented(each['body']))}</pre></tr>")
    return PAGE.format(kept=KEPT, rows="".join(rows))


def _event(body: str) -> str:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(told.get("type", "")) if isinstance(told, dict) else ""


def _indented(body: str) -> str:
    try:
        return json.dumps(json.loads(body), indent=1)
    except (ValueError, RecursionError):
        return body


if __name__ == "__main__":
    Catcher(int(sys.argv[1]), Path(sys.argv[2])).serve_forever()
