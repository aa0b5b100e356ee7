"""An order from checkout to delivery, with a process killed between every two steps."""

import httpx
import pytest
from rest_framework_simplejwt.tokens import AccessToken

from accounts.models import SignIn
from celery_ledger.models import DurableTask
from core.examples import SHIPPING_ADDRESS
from email_app.models import EmailDelivery
from messaging.models import Message
from payments.models import DeclinedCharge, Payment
from payments.provider import Result
from payments.settling import settle
from store.models import Order, ShippingAddress, Stock
from tests.processes import wait_until
from tests.shop import api, check_out, make_cart, make_customer, make_product
from webhooks.models import WebhookDelivery, WebhookEndpoint
from webhooks.recording import record_test

pytestmark = [pytest.mark.processes, pytest.mark.slow_fault, pytest.mark.timeout(300)]

KEY = {"Idempotency-Key": "key"}
PROVIDER = {"PAYMENT_URL": "http://127.0.0.1:9", "PAYMENT_SECRET": "whsec_c2hvcHdpcmUtZGV2ZWxvcG1lbnQ="}


def post(machine, customer, path, body, **headers):
    """Return the answer, or None where the web process died of the request."""
    headers["Authorization"] = f"Bearer {AccessToken.for_user(customer.user)}"
    try:
        return httpx.post(f"{machine.web_url}{path}", json=body, headers=headers, timeout=30, trust_env=False)
    except httpx.TransportError:
        return None


def twice(machine, step, ask, made, **environment):
    """Ask a web process that is killed at ``step``, see what it ``made``, and ask the next one; return its answer."""
    web = machine.start_web(FAULT=step, **environment)
    assert ask() is None
    wait_until("the fault landed", lambda: not web.is_alive)
    assert made() == (0 if ".before_" in step else 1)
    machine.start_web(machine.web_port, **environment)
    answer = ask()
    assert made() == 1
    return answer


@pytest.mark.fault("F172")
@pytest.mark.parametrize("step", ["checkout.before_commit", "checkout.after_commit"])
def test_f172_an_order_and_where_it_goes_are_there_together_or_not_at_all(machine, step):
    customer = make_customer()
    wish = {"cart_id": str(make_cart({make_product(): 1}, customer).pk), "shipping_address": SHIPPING_ADDRESS}

    def made():
        assert Order.objects.count() == ShippingAddress.objects.count()
        return Order.objects.count()

    answer = twice(machine, step, lambda: post(machine, customer, "/api/orders/", wish, **KEY), made)
    assert (answer.status_code, answer.json()["shipping_address"]) == (201, SHIPPING_ADDRESS)


@pytest.mark.fault("F173")
@pytest.mark.parametrize("step", ["shipping.before_commit", "shipping.after_commit"])
def test_f173_who_ships_is_killed_and_the_customer_is_told_once_of_each_step(machine, mail_server, step):
    customer = make_customer()
    order = Order.objects.create(customer=customer, cart_id="5f0c6a3e-8d0b-4d5e-9f63-0d6a1c2b7e11", total=0)
    ship = f"from store.shipping import *; ship_orders([{order.pk}]); deliver_orders([{order.pk}])"
    killed = machine.run_command("shell", "-v0", "-c", ship, FAULT=step)
    assert killed.returncode == -9
    order.refresh_from_db()
    assert order.status == ("placed" if ".before_" in step else "shipped")
    assert DurableTask.objects.filter(name="email_app.tasks.send_order_shipped").exists() == (".after_" in step)
    assert machine.run_command("shell", "-v0", "-c", ship).returncode == 0

    machine.start_relay()
    worker = machine.start_worker(concurrency=1, FAULT="mail.before_record", LEDGER_RUNNING_LEASE="2")
    wait_until("the fault landed", lambda: worker.says("signal 9 (SIGKILL)"))
    worker.kill()
    machine.start_worker(concurrency=1, LEDGER_RUNNING_LEASE="2")
    told = EmailDelivery.objects.filter(order=order, status="sent")
    wait_until("both are sent", lambda: told.count() == 2, seconds=60)
    assert set(told.values_list("kind", flat=True)) == {"order_shipped", "order_delivered"}
    assert DurableTask.objects.filter(name__startswith="email_app.tasks.send_order_").count() == 2


@pytest.mark.fault("F174")
@pytest.mark.parametrize("what", ["message", "tokens", "redelivery"])
@pytest.mark.parametrize("step", ["once.before_commit", "once.after_commit"])
def test_f174_what_a_killed_web_process_made_under_a_key_is_made_once(machine, step, what):
    customer = make_customer(is_staff=True, is_superuser=True, password="correct horse battery")
    path, wish, made = {
        "message": lambda: (
            "/api/messages/",
            {"receiver": make_customer().user.username, "content": "Is it there?"},
            Message.objects.count,
        ),
        "tokens": lambda: (
            "/api/token/",
            {"username": customer.user.username, "password": "correct horse battery"},
            SignIn.objects.count,
        ),
        "redelivery": lambda: (
            f"/api/webhooks/deliveries/{make_delivery().pk}/redeliver/",
            {},
            WebhookDelivery.objects.filter(status="pending").count,
        ),
    }[what]()
    answer = twice(machine, step, lambda: post(machine, customer, path, wish, **KEY), made)
    assert answer.is_success, answer.text
    assert answer.headers.get("Idempotent-Replayed") == (None if ".before_" in step else "true")
    assert DurableTask.objects.filter(name="webhooks.tasks.deliver").count() == (what == "redelivery")


@pytest.mark.fault("F175")
@pytest.mark.parametrize("is_second", [False, True])
@pytest.mark.parametrize("step", ["payments.before_asked", "payments.after_asked"])
def test_f175_a_web_process_that_is_killed_as_somebody_pays_has_the_provider_asked_once(
    machine, settings, step, is_second
):
    customer = make_customer()
    order = unpaid_order(customer, settings)
    first = Payment.objects.get()
    if is_second:
        settle(first.pk, first.reference, Result.DECLINED)
    charges = DurableTask.objects.filter(name="payments.tasks.charge")
    path = f"/api/orders/{order.pk}/payment/"
    answer = twice(machine, step, lambda: post(machine, customer, path, {}), charges.count, **PROVIDER)
    assert answer.status_code == 202
    assert charges.get().subject == order.subject
    assert [each.reference for each in DeclinedCharge.objects.all()] == [first.reference] * is_second
    assert DurableTask.objects.filter(name="payments.tasks.void_declined").count() == is_second


@pytest.mark.fault("F176")
@pytest.mark.parametrize("step", ["payments.before_let_go", "consumer.after_commit"])
def test_f176_a_worker_that_is_killed_as_it_lets_an_order_go_gives_its_stock_back_once(machine, settings, step):
    order = unpaid_order(make_customer(), settings)
    assert Stock.objects.get().reserved == 3
    Payment.objects.update(expires_at=order.placed_at)
    DurableTask.objects.filter(name="payments.tasks.expire").update(available_at=order.placed_at)
    DurableTask.objects.exclude(name="payments.tasks.expire").delete()  # So that the fault meets this one.
    machine.start_relay(**PROVIDER)
    worker = machine.start_worker(concurrency=1, FAULT=step, LEDGER_RUNNING_LEASE="2", **PROVIDER)
    wait_until("the fault landed", lambda: worker.says("signal 9 (SIGKILL)"))
    worker.kill()
    order.refresh_from_db()
    assert order.status == ("unpaid" if ".before_" in step else "expired")
    machine.start_worker(concurrency=1, LEDGER_RUNNING_LEASE="2", **PROVIDER)
    expiring = DurableTask.objects.filter(name="payments.tasks.expire", status="succeeded")
    wait_until("it is let go", expiring.exists, seconds=60)
    stock = Stock.objects.get()
    order.refresh_from_db()
    assert (order.status, stock.on_hand, stock.reserved) == ("expired", 100, 0)


def make_delivery():
    """Return a delivery that was made."""
    delivery = record_test(WebhookEndpoint.objects.create(url="https://hooks.example/"))
    WebhookDelivery.objects.update(status="delivered")
    return delivery


def unpaid_order(customer, settings):
    """Return an order of three things that waits for its payment."""
    settings.PAYMENT_URL = PROVIDER["PAYMENT_URL"]
    placed = check_out(api(customer), make_cart({make_product(): 3}, customer)).json()
    assert placed["status"] == "unpaid"
    return Order.objects.get(pk=placed["id"])
