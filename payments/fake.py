"""
A fake payment provider for development and tests: it fails, hangs, answers late and calls back twice.

``PAYMENT_SECRET=whsec_... python -m payments.fake PORT http://127.0.0.1:8000/api/payments/callback/`` takes
payments for a shop that is started with the same secret and ``PAYMENT_URL=http://127.0.0.1:PORT``. No money is
involved.

Like a real provider it charges once for each reference, whatever it answers, and remembers it; ``captured`` and
``refunded`` count.
"""

import json
import os
import random
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.error import URLError

from webhooks.signing import sign

#: What it can do with a charge.
MOODS: Final = (
    "pay",
    "decline",
    "fail",  # An error, and nothing was charged.
    "fail after",  # It charges, and answers an error.
    "hang",  # It charges, and never answers.
    "late",  # Pending; it calls back.
    "twice",  # It charges, calls back twice, and a third time with another id.
    "silent",  # Pending; it charges later without a callback.
)


class FakeProvider(ThreadingHTTPServer):
    """Processes charges according to ``moods``, in order, then pays all others. Callbacks go to a given URL."""

    daemon_threads = True

    def __init__(self, port: int, callback_url: str, secret: str, moods: Sequence[str] = ()) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.callback_url, self.secret = callback_url, secret
        self.moods = list(moods)
        #: Hanging requests hang until this is set.
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.charges: dict[str, dict[str, Any]] = {}
        self.captured: Counter[str] = Counter()
        self.refunded: Counter[str] = Counter()
        self.heard: list[int] = []

    @property
    def url(self) -> str:
        """The URL of the provider."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        """Ignore a shop that hung up."""

    def charge(self, wish: dict[str, Any]) -> tuple[int, str]:
        """Return the HTTP status and the charge's status; a known reference is not charged again."""
        reference = wish["reference"]
        with self.lock:
            known = self.charges.get(reference)
            if known:
                return 200, known["status"]
            mood = self.moods.pop(0) if self.moods else "pay"
            if mood == "fail":
                return 500, ""
            status = {"decline": "declined", "late": "pending", "silent": "pending"}.get(mood, "paid")
            self.charges[reference] = {**wish, "status": status}
            if mood != "decline":
                self.captured[reference] += 1
        if mood == "late":
            self.charges[reference]["status"] = "paid"
            self.call_back(reference, ids=[f"late-{reference}"], after=0.3)
        elif mood == "twice":
            self.call_back(reference, ids=[f"a-{reference}", f"a-{reference}", f"b-{reference}"])
        elif mood == "hang":
            self.released.wait(60)
        return (500, "") if mood == "fail after" else (200, status)

    def refund(self, wish: dict[str, Any]) -> None:
        """Refund a reference, once; an unknown one is barred from being charged later."""
        reference = wish["reference"]
        with self.lock:
            if self.captured[reference] > self.refunded[reference]:
                self.refunded[reference] += 1
            self.charges.setdefault(reference, {**wish, "status": "declined"})

    def call_back(self, reference: str, *, ids: Sequence[str], after: float = 0.0, event: str = "paid") -> None:
        """Report the outcome of a charge to the shop, once for each id, in a separate thread."""
        wish = self.charges[reference]
        facts = {"reference": reference, "amount": wish["amount"], "currency": wish["currency"]}
        body = json.dumps({"type": f"payment.{event}", "data": facts}).encode()

        def tell(id: str) -> None:
            time.sleep(after)
            for _ in range(20):
                if (status := self._post(id, body)) in {200, 204, 404, 409}:
                    self.heard.append(status)
                    return
                time.sleep(0.3)

        for id in ids:
            threading.Thread(target=tell, args=[id], daemon=True).start()

    def _post(self, id: str, body: bytes) -> int:
        headers = sign([self.secret], message_id=id, timestamp=int(time.time()), body=body)
        request = urllib.request.Request(  # noqa: S310 - The address is the developer's own.
            self.callback_url, body, {**headers, "Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - As above.
                return int(answer.status)
        except URLError as error:
            return int(getattr(error, "code", 0))
        except OSError:
            return 0


class Handler(BaseHTTPRequestHandler):
    """The HTTP handler of the provider."""

    server: FakeProvider

    def do_POST(self) -> None:
        """Charge or refund."""
        wish = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("Authorization") != f"Bearer {self.server.secret}":
            self._answer(401, {})
        elif self.path == "/charges":
            code, status = self.server.charge(wish)
            self._answer(code, {"status": status})
        elif self.path == "/refunds":
            self.server.refund(wish)
            self._answer(200, {"status": "refunded"})
        else:
            self._answer(404, {})

    def _answer(self, code: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        with suppress(OSError):
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


if __name__ == "__main__":
    chance = random.SystemRandom()
    provider = FakeProvider(int(sys.argv[1]), sys.argv[2], os.environ["PAYMENT_SECRET"])
    provider.moods = [chance.choice(MOODS[:7]) for _ in range(10_000)]
    provider.serve_forever()
