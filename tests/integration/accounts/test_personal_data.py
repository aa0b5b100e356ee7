"""
A fictitious person uses the whole shop with real processes; her data appears only where it belongs.

Everything sent to the broker is recorded (tasks, events, what Flower learns), all logs are kept, and the ledger and the
results are read completely. Every possible carrier is shown to work: her mails and SMS have arrived, and so have the
task events.
"""

import base64
import re
import threading

import httpx
import pytest
import redis
from django.db import models
from django_celery_results.models import TaskResult

from audit_trail.models import AuditEntry
from celery_ledger.models import DurableTask
from email_app.models import AddressClaim
from tests.mail_server import MailServer
from tests.processes import free_port, wait_until
from tests.shop import make_product

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

PERSON = {
    "username": "canary-zephyrina",
    "email": "zephyrina.q@canary-mail.example",
    "password": "a canary's secret song",
    "first_name": "Zephyrina",
    "last_name": "Quackenbush",
    "phone": "+44 20 7946 0958",
    "birth_date": "1987-03-14",
}
#: What a reader would know her by, also in part, and also as it is dialled.
TRACES = [*PERSON.values(), "zephyrina", "quackenbush", "canary-mail", "442079460958", "7946 0958", "79460958"]
REFUSED = "refused.zephyrina@canary-mail.example"


def traces_in(text):
    """Return each trace of her, with what stands around it."""
    lowered = text.casefold()
    places = [(trace, lowered.find(trace.casefold())) for trace in TRACES]
    return [(trace, text[max(0, at - 60) : at + 60]) for trace, at in places if at >= 0]


class Eavesdropper(threading.Thread):
    """Writes down every command that the broker is given."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.link = redis.Redis(port=port, socket_timeout=None)  # There may be nothing to hear for a while.
        self.heard = []
        self.ready = threading.Event()

    def run(self):
        try:
            with self.link.monitor() as monitor:
                self.ready.set()
                for command in monitor.listen():
                    self.heard.append(str(command))
        except (redis.ConnectionError, ValueError, OSError):
            return  # The broker is gone: the test is over.

    def text(self):
        """What was heard, with the bodies of messages and events as they are meant: they travel in base64."""
        heard = "\n".join(self.heard)
        bodies = re.findall(r'"body": "([A-Za-z0-9+/=]+)"', heard)
        return "\n".join([heard, *(base64.b64decode(body).decode() for body in bodies)])


@pytest.fixture
def mail_server():
    server = MailServer()
    server.start()
    yield server
    server.stop()


def whole(model: type[models.Model]) -> str:
    return "\n".join(str(row) for row in model._default_manager.values())


def all_ended():
    return DurableTask.objects.exists() and not DurableTask.objects.exclude(status__in=["succeeded", "dead"]).exists()


def test_a_person_is_found_in_no_message_no_log_no_result_and_no_event(machine, mail_server):
    if machine.uses_rabbitmq:
        pytest.skip("What RabbitMQ carries is the same, and cannot be overheard by a client.")
    mail_server.refused[REFUSED] = f"550 5.1.1 <{REFUSED}>: no such Zephyrina Quackenbush here"
    machine.environment |= {
        "EMAIL_URL": f"smtp://127.0.0.1:{mail_server.port}",
        "SMS_URL": f"file://{machine.folder}/sms",
        "FLOWER_BASIC_AUTH": "watch:tower",
        "FLOWER_PORT": str(free_port()),
    }
    ear = Eavesdropper(machine.redis_port)
    ear.start()
    assert ear.ready.wait(10)
    machine.start_relay()
    machine.start_worker("-E")
    machine.start_flower()
    machine.start_web()
    product = make_product(stock=10)

    with httpx.Client(base_url=f"http://127.0.0.1:{machine.web_port}/api", timeout=30) as client:
        account = {name: PERSON[name] for name in ("username", "email", "password")}
        assert client.post("/users/", json=account).status_code == 201
        assert client.post("/users/", json=account).status_code == 400  # Taken.
        AddressClaim.objects.all().delete()  # As if she had followed the link: or no mail would name her.
        assert client.post("/token/", json=account).status_code == 400  # It takes no address.
        assert client.post("/token/", json={"username": PERSON["username"], "password": "wrong"}).status_code == 401
        login = {"username": PERSON["username"], "password": PERSON["password"]}
        client.headers["Authorization"] = f"Bearer {client.post('/token/', json=login).json()['access']}"
        profile = {name: PERSON[name] for name in ("first_name", "last_name", "phone", "birth_date")}
        assert client.patch("/customers/me/", json=profile).status_code == 200
        for email in (PERSON["email"], REFUSED):  # The second one's mails are refused, with her name in the reply.
            assert client.patch("/customers/me/", json={"email": email}).status_code == 200
            for _ in range(2):  # The second is a duplicate.
                cart = client.post("/carts/").json()["id"]
                client.post(f"/carts/{cart}/items/", json={"product_id": product.pk, "quantity": 1})
                order = client.post("/orders/", json={"cart_id": cart})
                assert order.status_code == 201
                wait_until("every task has ended", all_ended, seconds=90)
        assert client.post(f"/orders/{order.json()['id']}/cancel/").status_code == 200
    wait_until("every task has ended", all_ended, seconds=90)

    texts = [f"{message['To']}\n{message.get_body(['plain']).get_content()}" for message in mail_server.received]
    assert any(PERSON["first_name"] in text and PERSON["email"] in text for text in texts), "No mail has come."
    [message] = [path.read_text() for path in (machine.folder / "sms").glob("*.txt")]
    assert "7946" in message, "No SMS has come."
    dead = DurableTask.objects.filter(status="dead")
    assert {task.last_error.partition(":")[0] for task in dead} == {"MailRefusedError"}, "No mail was refused."
    wait_until("a task's end was overheard", lambda: "task-succeeded" in ear.text(), seconds=30)
    overheard = ear.text()
    for name in ("shopwire:email", "task-succeeded", "celeryev"):
        assert name in overheard, f"The eavesdropper has not heard {name}."
    seen = f"http://127.0.0.1:{machine.environment['FLOWER_PORT']}/api/tasks?limit=1000"

    def ask_flower():
        return httpx.get(seen, auth=("watch", "tower"), timeout=30)

    wait_until("Flower has seen tasks", lambda: len(ask_flower().json()) > 5, seconds=30)
    flower = ask_flower()
    logs = {process.name: process.log.read_text(errors="replace") for process in machine.processes}
    assert any("MailRefusedError" in log for log in logs.values()), "The logs do not say what was refused."

    assert traces_in(overheard) == []
    assert traces_in(flower.text) == []
    assert {name: traces_in(log) for name, log in logs.items() if traces_in(log)} == {}
    for model in (DurableTask, TaskResult, AuditEntry):
        assert model._default_manager.exists()
        assert traces_in(whole(model)) == [], model
