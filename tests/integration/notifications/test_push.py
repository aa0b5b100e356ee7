"""Web Push: subscriptions, the content of pushes, and forbidden destinations."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from base64 import urlsafe_b64encode
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import http_ece
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.checks import run_checks
from django.test import Client
from django.utils import timezone
from py_vapid import Vapid02

from celery_ledger.models import DurableTask
from celery_ledger.testing import drain, enqueued
from notifications import push_services, vapid
from notifications.announce import notify
from notifications.models import Kind, NotificationDelivery, PushSubscription
from tests.shop import api, make_user

pytestmark = pytest.mark.django_db(transaction=True)

SERVICE = "https://fcm.googleapis.com"


def text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class Browser:
    """A browser: its key pair and secret, as its Push API makes them."""

    def __init__(self, path="/fcm/send/one"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.secret = os.urandom(16)
        self.path = path

    def subscription(self):
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return {
            "endpoint": f"{SERVICE}{self.path}",
            "expirationTime": None,
            "keys": {"p256dh": text(point), "auth": text(self.secret)},
        }

    def read(self, body):
        clear = http_ece.decrypt(body, private_key=self.key, auth_secret=self.secret, version="aes128gcm")
        return json.loads(clear)


class PushService(ThreadingHTTPServer):
    """A push service on this machine, which answers what ``answers`` says by path, and 201 after that."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), PushHandler)
        self.answers: dict[str, list[tuple[int, dict[str, str]]]] = {}
        self.taken: list[tuple[str, dict[str, str], bytes]] = []
        self.hits = 0

    def get_request(self):
        self.hits += 1
        return super().get_request()


class PushHandler(BaseHTTPRequestHandler):
    server: PushService

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, dict(self.headers), body))
        answers = self.server.answers.get(self.path, [])
        status, headers = answers.pop(0) if answers else (201, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def listener():
    """Something that listens on this machine, and counts who comes."""
    with PushService() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def service(listener, monkeypatch):
    """The push service that every known one leads to in this test."""
    monkeypatch.setattr(
        push_services, "connect", lambda host: socket.create_connection(listener.server_address, timeout=5)
    )
    return listener


@pytest.fixture(autouse=True)
def key(settings):
    settings.VAPID_PRIVATE_KEY = vapid.generate()


@pytest.fixture
def reader():
    return make_user()


def subscribe(user, browser):
    return api(user).post("/api/save-sub/", browser.subscription())


def tell(user, message="News.", kind=Kind.ANNOUNCEMENT):
    notify([user.pk], kind=kind, message=message, data={"order": 7})
    return user.notifications.latest("pk")


def due_again():
    DurableTask.objects.filter(status="pending").update(available_at=timezone.now() - timedelta(seconds=1))
    drain()


def delivery():
    return NotificationDelivery.objects.get(channel="push")


# --- Subscribing --------------------------------------------------------------------------


def test_a_browser_is_subscribed_once_with_the_key_of_the_shop_and_forgotten_on_demand(reader):
    client, browser = api(reader), Browser()
    key = client.get("/api/push/public-key/").json()["public_key"]
    assert len(vapid.decode(key)) == 65
    for _ in range(2):
        answer = subscribe(reader, browser)
        assert (answer.status_code, answer.json()) == (201, {"endpoint": browser.subscription()["endpoint"]})
    assert PushSubscription.objects.count() == 1
    endpoint = {"endpoint": browser.subscription()["endpoint"]}
    assert api(make_user()).delete("/api/save-sub/", endpoint).status_code == 404
    assert client.delete("/api/save-sub/", endpoint).status_code == 204
    assert client.delete("/api/save-sub/", endpoint).status_code == 404


def test_a_browser_on_which_somebody_else_signs_in_takes_pushes_for_that_one_alone(reader):
    browser, next_reader, stranger = Browser(), make_user(), make_user()
    subscribe(reader, browser)
    forged = Browser()  # Knows the address, and not the secret of the browser.
    forged.path = browser.path
    assert subscribe(stranger, forged).status_code == 201
    assert reader.push_subscriptions.exists()
    subscribe(next_reader, browser)
    assert not reader.push_subscriptions.exists()
    assert next_reader.push_subscriptions.count() == 1


def test_of_many_browsers_the_newest_are_kept(reader):
    for number in range(12):
        subscribe(reader, Browser(f"/{number}"))
    kept = set(reader.push_subscriptions.values_list("endpoint", flat=True))
    assert kept == {f"{SERVICE}/{number}" for number in range(2, 12)}


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://fcm.googleapis.com/x",
        "ftp://fcm.googleapis.com/x",
        "//fcm.googleapis.com/x",
        "https://fcm.googleapis.com:8443/x",
        "https://fcm.googleapis.com:0/x",
        "https://fcm.googleapis.com:99999/x",
        "https://user@fcm.googleapis.com/x",
        "https://fcm.googleapis.com@127.0.0.1/x",
        "https://127.0.0.1#@fcm.googleapis.com/x",
        "https://127.0.0.1\\@fcm.googleapis.com/x",
        "https://fcm.googleapis.com.evil.example/x",
        "https://evilfcm.googleapis.com/x",
        "https://push.apple.com.evil.example/x",
        "https://evilpush.apple.com/x",
        "https://fcm.googleapis.com./x",
        "https://127.0.0.1/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://0177.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://[fcm.googleapis.com/x",
        "https://localhost/x",
        "https://169.254.169.254/latest/meta-data/",
        "https://\u017fcm.googleapis.com/x",
        "https://fcm.googleapis.com/\r\nX-Evil: 1",
        "https://fcm.googleapis.com/a b",
        "file:///etc/passwd",
        "https://",
        "x",
    ],
)
def test_an_endpoint_that_is_no_known_push_service_over_https_is_refused(reader, endpoint):
    answer = api(reader).post("/api/save-sub/", Browser().subscription() | {"endpoint": endpoint})
    assert answer.status_code == 400, answer.content
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/endpoint"]
    with pytest.raises(push_services.NoPushServiceError):
        push_services.post(endpoint, b"", {})


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://fcm.googleapis.com/fcm/send/abc:def",
        "https://FCM.googleapis.com:443/fcm/send/x?y=1",
        "https://updates.push.services.mozilla.com/wpush/v2/gAAAA",
        "https://web.push.apple.com/QGZ",
        "https://wns2-par02p.notify.windows.com/w/?token=abc%3d",
    ],
)
def test_endpoints_of_browsers_are_taken(endpoint):
    assert push_services.check_endpoint(endpoint)


@pytest.mark.parametrize(
    ("keys", "pointer"),
    [
        ({"p256dh": "AAAA", "auth": text(bytes(16))}, "/keys/p256dh"),
        ({"p256dh": text(b"\x04" + bytes(64)), "auth": text(bytes(16))}, "/keys/p256dh"),
        ({"p256dh": "ü", "auth": text(bytes(16))}, "/keys/p256dh"),
        ({"auth": text(bytes(15))}, "/keys/auth"),
        ({"auth": "+" * 22}, "/keys/auth"),
        ({"auth": None}, "/keys/auth"),
        ({"more": 1}, "/keys/more"),
    ],
)
def test_keys_that_are_none_are_refused(reader, keys, pointer):
    wish = Browser().subscription()
    wish["keys"] |= keys
    answer = api(reader).post("/api/save-sub/", wish)
    assert answer.status_code == 400
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


# --- What a browser is sent -----------------------------------------------------------------


def test_a_notification_is_encrypted_for_its_reader_and_signed_by_the_shop(reader, service):
    browser = Browser()
    subscribe(reader, browser)
    told = tell(reader, "Your order 7 is placed.", Kind.ORDER_PLACED)
    drain()

    [(path, headers, body)] = service.taken
    assert path == browser.path
    assert browser.read(body) == {
        "id": told.pk,
        "kind": "order_placed",
        "title": "Shopwire",
        "body": "Your order 7 is placed.",
        "data": {"order": 7},
    }
    assert b"order" not in body
    assert (headers["Content-Encoding"], headers["TTL"]) == ("aes128gcm", "86400")
    assert Vapid02.verify(f"Authorization: {headers['Authorization']}".split(": ", 1)[1])
    assert headers["Host"] == "fcm.googleapis.com"
    assert (delivery().status, delivery().settled_at is not None) == ("sent", True)
    assert [row.args for row in enqueued("notifications.tasks.push_notification")] == [[delivery().pk]]


def test_the_longest_notification_fits_into_a_push(reader, service):
    browser = Browser()
    subscribe(reader, browser)
    notify([reader.pk], kind=Kind.ANNOUNCEMENT, message="\U0001f4e6" * 500, data={"much": "x" * 5_000})
    drain()
    [(_, _, body)] = service.taken
    assert len(body) <= 4_096
    assert browser.read(body)["body"].startswith("\U0001f4e6" * 3)


def test_who_has_no_browser_or_wants_no_push_is_not_pushed_to(reader, service):
    tell(reader)
    assert not NotificationDelivery.objects.exists()
    subscribe(reader, Browser())
    api(reader).put("/api/notifications/preferences/", {"kinds": {"announcement": {"push": False}}})
    tell(reader)
    assert not NotificationDelivery.objects.exists()
    assert enqueued("notifications.tasks.push_notification") == []


@pytest.mark.fault("F55")
@pytest.mark.parametrize("status", [404, 410])
def test_a_subscription_that_is_over_is_forgotten_and_the_others_are_pushed_to(reader, service, status):
    gone, there = Browser("/gone"), Browser("/there")
    subscribe(reader, gone)
    subscribe(reader, there)
    service.answers["/gone"] = [(status, {})]
    tell(reader)
    drain()
    assert [row.endpoint for row in reader.push_subscriptions.all()] == [f"{SERVICE}/there"]
    assert delivery().status == "sent"


def test_when_no_subscription_is_left_the_delivery_says_so(reader, service):
    subscribe(reader, Browser("/gone"))
    service.answers["/gone"] = [(410, {})]
    tell(reader)
    drain()
    assert (delivery().status, delivery().error) == ("skipped", "No browser is subscribed any more.")


@pytest.mark.fault("F55")
def test_a_service_that_asks_for_patience_is_asked_again_and_nobody_else_twice(reader, service):
    subscribe(reader, Browser("/busy"))
    subscribe(reader, Browser("/there"))
    service.answers["/busy"] = [(429, {"Retry-After": "120"}), (503, {})]
    tell(reader)
    drain()
    [task] = enqueued("notifications.tasks.push_notification")
    assert task.status == "pending"
    assert 100 < (task.available_at - timezone.now()).total_seconds() < 130
    assert (delivery().status, delivery().error) == ("pending", "The push service answered 429.")
    due_again()
    due_again()
    assert sorted(path for path, _, _ in service.taken) == ["/busy", "/busy", "/busy", "/there"]
    assert (delivery().status, delivery().error) == ("sent", "")


@pytest.mark.parametrize("answer", [(301, {"Location": "http://127.0.0.1/"}), (400, {}), (403, {}), (413, {})])
def test_a_refusal_is_final_and_a_redirect_is_one(reader, service, answer):
    browser = Browser()
    subscribe(reader, browser)
    service.answers[browser.path] = [answer]
    tell(reader)
    drain()
    assert len(service.taken) == 1
    assert (delivery().status, delivery().error) == ("failed", f"The push service refused it: {answer[0]}.")


@pytest.mark.fault("F55")
def test_a_service_that_hangs_is_left_after_its_time_and_asked_again(reader, monkeypatch):
    monkeypatch.setattr(push_services, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(push_services, "connect", lambda host: socket.create_connection(silent.getsockname(), 0.2))
        subscribe(reader, Browser())
        tell(reader)
        drain()
    assert (delivery().status, delivery().error) == ("pending", "The push service did not answer: TimeoutError.")


def test_what_was_read_meanwhile_is_not_pushed(reader, service):
    subscribe(reader, Browser())
    tell(reader).mark_as_read()
    drain()
    assert (delivery().status, service.taken) == ("skipped", [])


def test_without_a_key_there_is_no_push(reader, service, settings):
    subscribe(reader, Browser())
    settings.VAPID_PRIVATE_KEY = ""
    assert api(reader).get("/api/push/public-key/").status_code == 404
    tell(reader)
    drain()
    assert delivery().status == "skipped"


# --- Where no push ever goes ------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "fe80::1",
                "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1"]
)  # fmt: skip
@pytest.mark.fault("F55")
def test_a_known_name_that_leads_to_a_place_that_is_not_public_is_not_spoken_to(reader, listener, monkeypatch, address):
    """The name is resolved once, and what was looked at is what is connected to."""
    port = listener.server_address[1]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    real = socket.create_connection
    asked = []

    def resolve(host, *args, **kwargs):
        asked.append(host)
        return [(family, socket.SOCK_STREAM, 6, "", (address, 443))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    # Whatever were connected to would be the listener.
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: real(("127.0.0.1", port), 5))
    subscribe(reader, Browser())
    tell(reader)
    drain()
    assert asked == ["fcm.googleapis.com"]
    assert delivery().status == "failed"
    assert "not public" in delivery().error
    assert listener.hits == 0


def test_one_address_that_is_not_public_among_others_is_enough(listener, monkeypatch):
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("142.250.1.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(push_services.NoPushServiceError):
        push_services.post(f"{SERVICE}/x", b"", {})


@pytest.mark.fault("F55")
def test_a_redirect_to_this_machine_is_not_followed(reader, service, monkeypatch):
    with PushService() as inner:
        threading.Thread(target=inner.serve_forever, daemon=True).start()
        browser = Browser()
        subscribe(reader, browser)
        place = f"http://127.0.0.1:{inner.server_address[1]}/"
        for status in (301, 302, 303, 307, 308):
            service.answers[browser.path] = [(status, {"Location": place})]
            tell(reader)
            drain()
        inner.shutdown()
        assert len(service.taken) == 5
        assert inner.hits == 0


def test_a_subscription_that_came_in_by_another_way_is_looked_at_again(reader, listener):
    """As from a database of before the list of known services was shorter."""
    port = listener.server_address[1]
    for place in ("http://127.0.0.1", "https://127.0.0.1", "https://localhost", "http://2130706433", "http://[::1]"):
        wish = Browser().subscription()
        reader.push_subscriptions.create(endpoint=f"{place}:{port}/x", **wish["keys"])
    tell(reader)
    drain()
    assert delivery().status == "failed"
    assert listener.hits == 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_a_certificate_that_is_not_the_services_own_is_refused(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=fcm.googleapis.com", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with PushService() as impostor:
        impostor.socket = context.wrap_socket(impostor.socket, server_side=True)
        impostor.handle_error = lambda *_: None
        threading.Thread(target=impostor.serve_forever, daemon=True).start()
        real = socket.create_connection
        monkeypatch.setattr(push_services, "is_public", lambda address: True)
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("142.250.1.1", 443))]
        )
        monkeypatch.setattr(socket, "create_connection", lambda *_, **__: real(impostor.server_address, 5))
        with pytest.raises(ssl.SSLCertVerificationError):
            push_services.post(f"{SERVICE}/x", b"", {})
        impostor.shutdown()
        assert impostor.taken == []


# --- The service worker, and the keys -----------------------------------------------------------


def test_the_service_worker_stands_at_the_root():
    answer = Client().get("/sw.js")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert b'addEventListener("push"' in answer.content


def test_keys_that_are_none_or_do_not_belong_together_stop_the_start(settings):
    def complaints():
        return [error.id for error in run_checks() if error.id and error.id.startswith("notifications.")]

    assert complaints() == []
    settings.VAPID_PUBLIC_KEY = vapid.public_key()
    assert complaints() == []
    settings.VAPID_PRIVATE_KEY = vapid.generate()
    assert complaints() == ["notifications.E002"]
    for wrong in ("x", text(bytes(31)), text(bytes(32)), "ü"):
        settings.VAPID_PRIVATE_KEY = wrong
        assert complaints() == ["notifications.E001"]


def test_in_development_a_key_is_made_once_and_kept_for_its_owner_alone(settings, tmp_path):
    settings.DEBUG, settings.VAPID_PRIVATE_KEY, settings.VAR_DIR = True, "", tmp_path
    first = vapid.public_key()
    assert first
    assert vapid.public_key() == first
    [kept] = tmp_path.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
