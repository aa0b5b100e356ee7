"""One request's id, from HTTP through the ledger and the tasks to the mail, in JSON logs."""

import json

import httpx
import pytest
from rest_framework_simplejwt.tokens import AccessToken

from celery_ledger.models import DurableTask
from tests.processes import wait_until
from tests.shop import make_cart, make_customer, make_product

pytestmark = [pytest.mark.processes, pytest.mark.once]


def events(process):
    """Return the JSON lines that a process logged; every line must be one."""
    return [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]


def test_a_request_is_followed_from_http_to_its_mail(machine):
    machine.environment |= {"LOG_FORMAT": "json", "LOG_LEVEL": "INFO"}
    web = machine.start_web()
    machine.start_relay()
    worker = machine.start_worker(concurrency=1)
    customer = make_customer()
    cart = make_cart({make_product(): 1}, customer)
    headers = {"Authorization": f"Bearer {AccessToken.for_user(customer.user)}", "X-Request-ID": "follow-me"}
    address = f"http://127.0.0.1:{machine.web_port}/api/orders/"

    answer = httpx.post(address, json={"cart_id": str(cart.id)}, headers=headers)

    assert (answer.status_code, answer.headers["X-Request-ID"]) == (201, "follow-me")
    rows = DurableTask.objects.filter(request_id="follow-me")
    assert rows.count() >= 5
    wait_until("all its tasks are done", lambda: not rows.exclude(status="succeeded").exists())
    (request,) = [event for event in events(web) if event.get("request_id") == "follow-me"]
    assert (request["logger"], request["method"], request["path"], request["status"]) == (
        "core.requests",
        "POST",
        "/api/orders/",
        201,
    )
    wait_until(
        "the worker has said of each that it is done",
        lambda: (
            {event["id"] for event in events(worker) if event.get("request_id") == "follow-me"}
            >= {str(id) for id in rows.values_list("id", flat=True)}
        ),
    )
    assert {event["subject"] for event in events(worker) if "subject" in event} >= {
        f"store.order:{answer.json()['id']}"
    }
    mails = [path.read_text() for path in (machine.folder / "mail").rglob("*.eml")]
    assert any("X-Request-ID: follow-me" in mail for mail in mails), mails
