"""Webhooks to names with a lying name server, resolved by the system's own resolver in a separate network."""

import socket
import ssl
import subprocess
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
import standardwebhooks
from django.db import connection

from tests.hostile_names import GARBAGE, SILENCE, NameServer, network
from tests.processes import database_url, wait_until
from tests.tcp_proxy import tcp_proxy
from tests.webhook_receiver import receiver
from webhooks import changes
from webhooks.models import WebhookDelivery, WebhookEndpoint

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

PUBLIC = "93.184.216.34"
#: Each has a listener at the port of https, which must never hear anything.
LOOPBACK = ["127.0.0.1", "::1"]
INSIDE = ["10.0.0.1", "169.254.169.254", "100.64.0.1", "fd12::1", "64:ff9b::7f00:1", "2002:7f00:1::"]
ZONE = {
    "public.example": [[PUBLIC]],
    "alias.example": [["public.example"]],
    "rebinding.example": [[PUBLIC], ["127.0.0.1"]],
    "loopback.example": [["127.0.0.1"]],
    "inside.example": [["10.0.0.1"]],
    "shared.example": [["100.64.0.1"]],
    "metadata.example": [["169.254.169.254"]],
    "both.example": [[PUBLIC, "10.0.0.1"]],
    "chain.example": [["middle.example"]],
    "middle.example": [["inside.example"]],
    "six.example": [["::1"]],
    "unique.example": [["fd12::1"]],
    "mapped.example": [["::ffff:127.0.0.1"]],
    "link.example": [["fe80::1"]],
    "nat64.example": [["64:ff9b::7f00:1"]],
    "sixtofour.example": [["2002:7f00:1::"]],
    "half.example": [[PUBLIC, "::1"]],
    "silent.example": [[SILENCE]],
    "garbage.example": [[GARBAGE]],
    "nowhere.example": [[]],
}
REACHED = ["public.example", "alias.example", "rebinding.example"]
WITHOUT_ADDRESS = {"silent.example": "TimeoutError", "garbage.example": "did not answer", "nowhere.example": "gaierror"}


@pytest.fixture
def certificate(tmp_path):
    """One for every name here, which the processes of this test trust."""
    key, chain = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=example", "-addext", f"subjectAltName={','.join(f'DNS:{name}' for name in ZONE)}",
         "-keyout", str(key), "-out", str(chain)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return chain, context


@pytest.fixture
def hostile(machine, certificate):
    """A worker in a network whose name server lies; what listens at its public address, and at those inside."""
    if machine.uses_rabbitmq:
        pytest.skip("the worker is given a way to a Redis")
    chain, context = certificate
    with ExitStack() as stack:
        lies = stack.enter_context(network([PUBLIC, *INSIDE]))
        names = NameServer(lies.within(lambda: _datagrams("127.0.0.1", 53)), ZONE)
        stack.callback(names.close)
        server = stack.enter_context(receiver(context.wrap_socket(lies.listen(PUBLIC, 443), server_side=True)))
        traps = {address: stack.enter_context(lies.listen(address, 443)) for address in [*LOOPBACK, *INSIDE]}
        for trap in traps.values():
            trap.settimeout(5)
            lies.within(lambda trap=trap: _visit(trap))  # Whoever is let in is noticed.
            trap.accept()[0].close()
            trap.setblocking(False)

        there = {"SSL_CERT_FILE": str(chain), "WEBHOOKS_TO_LOCALHOST": "0"}
        redis = stack.enter_context(tcp_proxy("127.0.0.1", machine.redis_port, lies.listen("127.0.0.1", 0)))
        there["REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
        if connection.vendor == "postgresql":
            home = urlsplit(database_url())
            database = stack.enter_context(tcp_proxy(home.hostname, home.port, lies.listen("127.0.0.1", 0)))
            there["DATABASE_URL"] = database_url().replace(
                f"@{home.hostname}:{home.port}/", f"@127.0.0.1:{database.port}/"
            )
        machine.start_relay()
        machine.elsewhere = lies.run
        worker = machine.start_worker("-Q", "webhooks", concurrency=4, **there)
        machine.elsewhere = list
        yield names, server, traps
        worker.kill()


@pytest.mark.once
@pytest.mark.fault("F208")
def test_f208_no_name_server_has_a_webhook_sent_to_a_place_that_is_not_public(hostile):
    names, server, traps = hostile
    tests = {name: changes.test(WebhookEndpoint.objects.create(url=f"https://{name}/hook")) for name in ZONE}
    wait_until("each is tried", lambda: all(each.attempts.exists() for each in tests.values()), seconds=120)
    tried = {name: each.attempts.earliest("id") for name, each in tests.items()}
    assert {name for name, attempt in tried.items() if attempt.status_code == 200} == set(REACHED)
    for name, attempt in tried.items():
        if name not in REACHED:
            assert WITHOUT_ADDRESS.get(name, "an address that is not public") in attempt.error, name
    assert tried["silent.example"].milliseconds < 15_000

    # Its name server has changed its mind: the first message went where it said then, and was asked for once.
    assert names.asked["rebinding.example", "A"] == 1
    again = changes.test(WebhookEndpoint.objects.get(url="https://rebinding.example/hook"))
    wait_until("it is tried", again.attempts.exists)
    assert "not public" in again.attempts.earliest("id").error

    for headers, body in server.taken:
        secret = WebhookEndpoint.objects.get(deliveries__message_id=headers["webhook-id"]).secret
        standardwebhooks.Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})
    assert sorted(headers["Host"] for headers, _ in server.taken) == sorted(REACHED)
    assert [address for address, trap in traps.items() if _was_visited(trap)] == []
    assert WebhookDelivery.objects.filter(status="delivered").count() == len(REACHED)


def _datagrams(address, port):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, port))
    return made


def _visit(trap):
    socket.create_connection(trap.getsockname()[:2], timeout=5).close()


def _was_visited(trap):
    try:
        trap.accept()[0].close()
    except BlockingIOError:
        return False
    return True
