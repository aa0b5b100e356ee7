"""A number that is set gets a code by SMS; the code shows that the number is its customer's."""

import json
import re
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import time_machine
from django.core.management import call_command
from django.utils import timezone

from celery_ledger.errors import PermanentError
from celery_ledger.models import DurableTask
from celery_ledger.testing import drain, enqueued
from phones import sms
from phones.models import PhoneVerification
from tests.shop import all_at_once, api, edit_in_admin, make_customer, make_manager

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "+44 20 7946 0000"


@pytest.fixture
def customer():
    return make_customer()


@pytest.fixture
def client(customer):
    return api(customer)


def set_number(client, number=NUMBER):
    assert client.patch("/api/customers/me/", {"phone": number}, format="json").status_code == 200
    drain()


def messages(folder):
    return [path.read_text() for path in sorted(folder.glob("*.txt"))] if folder.exists() else []


def code_in(message):
    return re.search(r"^(\d{6}) is your Shopwire code", message, re.MULTILINE)[1]


def verify(client, code):
    return client.post("/api/customers/me/phone/verify/", {"code": code}, format="json")


def wrong(code):
    return f"{(int(code) + 1) % 10**6:06}"


def test_setting_a_number_sends_a_code_and_the_code_verifies_it(client, folder):
    assert client.get("/api/customers/me/phone/").json() == {"phone": "", "verified": False, "served": False}
    set_number(client)
    [message] = messages(folder)
    assert message.startswith("To: +442079460000\n")
    assert "good for 10 minutes" in message
    state = {"phone": NUMBER, "verified": False, "served": True}
    assert client.get("/api/customers/me/phone/").json() == state
    answer = verify(client, code_in(message))
    assert (answer.status_code, answer.json()) == (200, state | {"verified": True})
    assert verify(client, code_in(message)).status_code == 409


def test_a_number_that_is_set_in_the_admin_gets_a_code_too(customer, folder):
    edit_in_admin(make_manager(), customer, phone="02079460001")
    drain()
    assert messages(folder)[0].startswith("To: +442079460001\n")


def test_the_same_number_again_and_other_changes_send_nothing(client, customer, folder):
    set_number(client)
    set_number(client, "+44 (20) 79460000")
    client.patch("/api/customers/me/", {"first_name": "Ada"}, format="json")
    set_number(client, "")
    assert len(messages(folder)) == 1


def test_another_number_has_to_be_verified_anew(client, folder):
    set_number(client)
    old = code_in(messages(folder)[0])
    assert verify(client, old).status_code == 200
    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        set_number(client, "02079460002")
        assert client.get("/api/customers/me/phone/").json()["verified"] is False
        assert verify(client, code_in(messages(folder)[1])).status_code == 200


def test_a_code_bears_five_tries_and_then_not_even_the_right_one(client, folder):
    set_number(client)
    code = code_in(messages(folder)[0])
    answers = [verify(client, wrong(code)) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [400] * 5
    assert answers[0].json()["errors"] == [{"pointer": "/code", "detail": "Wrong code. Attempts left: 4."}]
    refused = verify(client, code)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:shopwire:problem:no-code")
    assert client.get("/api/customers/me/phone/").json()["verified"] is False


def test_tries_at_once_are_counted_each(customer, client, folder):
    set_number(client)
    code = code_in(messages(folder)[0])
    answers = all_at_once([lambda: verify(api(customer), wrong(code)) for _ in range(10)])
    assert sorted(answer.status_code for answer in answers) == [400] * 5 + [409] * 5


def test_a_code_expires(client, folder):
    set_number(client)
    with time_machine.travel(timezone.now() + timedelta(minutes=11)):
        assert verify(client, code_in(messages(folder)[0])).status_code == 409


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", None, [], "\uff11\uff12\uff13\uff14\uff15\uff16"])
def test_what_is_no_code_is_a_400_and_costs_no_try(client, folder, code):
    set_number(client)
    assert verify(client, code).status_code == 400
    assert PhoneVerification.objects.get().tries == 0


def test_codes_are_throttled_by_customer(client, folder):
    set_number(client)
    again = client.post("/api/customers/me/phone/code/")
    assert again.status_code == 429
    assert 0 < int(again.headers["Retry-After"]) <= 30
    for minute in range(1, 5):
        with time_machine.travel(timezone.now() + timedelta(minutes=minute)):
            assert client.post("/api/customers/me/phone/code/").status_code == 202
    with time_machine.travel(timezone.now() + timedelta(minutes=6)):
        refused = client.post("/api/customers/me/phone/code/")
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 3000
        set_number(client, "02079460009")  # The profile is saved, and no code goes out.
    assert PhoneVerification.objects.count() == 5


def test_codes_are_throttled_by_number_whoever_asks(folder):
    for _ in range(2):
        set_number(api(make_customer()))
    assert len(messages(folder)) == 1


def test_only_the_latest_code_is_good_and_sent(client, folder):
    set_number(client)
    first = code_in(messages(folder)[0])
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        client.post("/api/customers/me/phone/code/")
    DurableTask.objects.filter(status="pending").update(available_at=timezone.now() - timedelta(seconds=1))
    drain()
    assert verify(client, first).status_code == 400
    assert verify(client, code_in(messages(folder)[1])).status_code == 200


def test_there_is_nothing_to_verify_without_a_number_or_with_a_verified_one(client, folder):
    assert client.post("/api/customers/me/phone/code/").status_code == 409
    assert verify(client, "123456").status_code == 409
    set_number(client)
    verify(client, code_in(messages(folder)[0]))
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        assert client.post("/api/customers/me/phone/code/").status_code == 409


def test_numbers_are_for_whoever_is_signed_in():
    for method, path in (("get", ""), ("post", "code/"), ("post", "verify/")):
        assert getattr(api(), method)(f"/api/customers/me/phone/{path}").status_code == 401


def test_no_code_is_anywhere_in_the_database(client, folder, tmp_path):
    set_number(client)
    code = code_in(messages(folder)[0])
    path = tmp_path / "all.json"
    call_command("dumpdata", output=str(path))
    assert '"phones.phoneverification"' in path.read_text()
    assert not re.search(rf"(?<![0-9a-f]){code}(?![0-9a-f])", path.read_text())


def test_a_number_from_a_fixture_gets_no_code(customer, client, folder, tmp_path):
    set_number(client)
    path = tmp_path / "customers.json"
    call_command("dumpdata", "store.customer", output=str(path))
    call_command("loaddata", str(path), verbosity=0)
    assert len(enqueued("phones.tasks.send_code")) == 1


# --- Ways of sending ----------------------------------------------------------------------


@pytest.fixture
def gateway(settings):
    """A gateway on this machine, which answers what ``answers`` says, and 200 after that."""

    class Handler(BaseHTTPRequestHandler):
        answers: list[int] = []
        requests: list[tuple[dict, dict]] = []

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.requests.append((body, dict(self.headers)))
            self.send_response(self.answers.pop(0) if self.answers else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    Handler.answers, Handler.requests = [], []
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings.SMS_URL = f"http://shop:pass%20word@127.0.0.1:{server.server_port}/messages"
        yield Handler
        server.shutdown()


def test_a_gateway_over_http_that_is_busy_is_asked_again_with_the_same_code_and_name(client, gateway, caplog):
    gateway.answers = [503, 429]
    with caplog.at_level("INFO"):
        set_number(client)
        for _ in range(2):
            DurableTask.objects.filter(status="pending").update(available_at=timezone.now() - timedelta(seconds=1))
            drain()
    bodies = [body for body, _ in gateway.requests]
    assert len(bodies) == 3
    assert bodies[0] == bodies[1] == bodies[2]
    assert bodies[0]["to"] == "+442079460000"
    headers = [header for _, header in gateway.requests]
    assert len({header["Idempotency-Key"] for header in headers}) == 1
    assert headers[0]["Authorization"].startswith("Basic ")
    assert verify(client, code_in(bodies[0]["text"])).status_code == 200
    [task] = enqueued("phones.tasks.send_code")
    assert (task.status, task.attempts) == ("succeeded", 3)
    for secret in ("7946", bodies[0]["text"][:6], "pass%20word", "pass word"):
        assert secret not in caplog.text
        assert secret not in str(list(DurableTask.objects.values()))


def test_a_message_that_the_gateway_refuses_is_a_dead_letter(client, gateway):
    gateway.answers = [422]
    set_number(client)
    [task] = enqueued("phones.tasks.send_code")
    assert (task.status, task.last_error) == ("dead", "SmsRefusedError: The SMS gateway refused the message: 422.")


def test_a_gateway_that_is_away_is_asked_again(settings, client):
    settings.SMS_URL = "http://127.0.0.1:9/messages"
    set_number(client)
    [task] = enqueued("phones.tasks.send_code")
    assert (task.status, task.attempts) == ("pending", 1)
    assert "did not answer: ConnectError" in task.last_error


def test_a_console_shows_the_message(settings, capsys):
    settings.SMS_URL = "console:"
    sms.send("0123456", "Hello.", reference="1")
    assert capsys.readouterr().out == "SMS to 0123456: Hello.\n"


class OwnSender:
    sent: list[str] = []

    def __init__(self, url):
        self.url = url

    def send(self, to, text, *, reference):
        self.sent.append(f"{self.url} {to} {text}")


def test_another_way_of_sending_is_another_class(settings):
    settings.SMS_SENDERS = {"pigeon": f"{__name__}.OwnSender"}
    settings.SMS_URL = "pigeon:home"
    sms.send("1", "Coo.", reference="1")
    assert OwnSender.sent == ["pigeon:home 1 Coo."]


def test_a_verification_that_is_gone_is_a_permanent_error():
    from phones.tasks import send_code

    with pytest.raises(PermanentError):
        send_code(1)
