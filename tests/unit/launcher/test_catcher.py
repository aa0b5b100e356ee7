"""The receiver of webhooks that run.py starts."""

import http.client
import json
import threading
import time

import pytest

from launcher.catcher import LARGEST, Catcher
from webhooks.signing import make_secret, sign


@pytest.fixture
def catcher(tmp_path):
    with Catcher(0, tmp_path / "secret") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def call(server, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    try:
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_it_shows_what_it_was_sent_and_whether_that_is_genuine(catcher):
    secret = make_secret()
    catcher.secret_file.write_text(secret)
    body = json.dumps({"type": "order.created", "data": {"title": "<script>"}}).encode()
    headers = sign([make_secret(), secret], message_id="msg_1", timestamp=int(time.time()), body=body)
    assert call(catcher, "POST", "/", body, **headers)[0] == 204
    assert call(catcher, "POST", "/fail", body + b" ", **headers)[0] == 500
    forged, genuine = json.loads(call(catcher, "GET", "/caught.json")[1])
    assert (genuine["id"], genuine["genuine"], genuine["answered"]) == ("msg_1", True, 204)
    assert (forged["genuine"], forged["answered"]) == (False, 500)
    page = call(catcher, "GET", "/")[1]
    assert "order.created" in page
    assert "not ours" in page
    assert "<script>" not in page


def test_it_takes_no_large_message_and_shows_nothing_to_a_page_of_another_site(catcher):
    assert call(catcher, "POST", "/", b"", Content_Length=str(LARGEST + 1))[0] == 413
    assert call(catcher, "GET", "/", Host="evil.example")[0] == 403
    assert call(catcher, "GET", "/x")[0] == 404
