"""An order is paid once, whatever the provider does: it fails, hangs, answers late, calls back twice, or lies."""

import json
import threading
import time
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from celery_ledger.models import DurableTask
from celery_ledger.promises import promises
from celery_ledger.testing import drain, enqueued, pass_time
from email_app.models import EmailDelivery
from payments import provider as provider_module
from payments import refunds, settling
from payments.fake import FakeProvider
from payments.models import Payment
from payments.provider import Result
from store.models import Order, Stock, StockMovement
from tests.shop import all_at_once, api, check_out, make_cart, make_customer, make_product, place_order
from webhooks.signing import make_secret, sign

pytestmark = pytest.mark.django_db(transaction=True)

CALLBACK = "/api/payments/callback/"


@pytest.fixture
def provider(settings):
    settings.PAYMENT_SECRET = make_secret()
    with FakeProvider(0, "http://127.0.0.1:1/", settings.PAYMENT_SECRET) as server:
        server.call_back = lambda *_, **__: None  # Here the tests call back.
        settings.PAYMENT_URL = server.url
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.released.set()
        server.shutdown()


@pytest.fixture
def product():
    return make_product(stock=10)


def buy(product, quantity=2, *, paying=True):
    customer = make_customer()
    order = place_order(customer, {product: quantity}, key="key")
    assert order.status == "unpaid"
    if paying:
        assert pay(api(customer), order).status_code == 202
    return order, api(customer)


def pay(client, order):
    return client.post(f"/api/orders/{order.pk}/payment/", {}, format="json")


def call_back(payment, *, id="msg_1", event="payment.paid", key=None, at=None, **facts):
    data = {"reference": str(payment.reference), "amount": str(payment.amount), "currency": "GBP", **facts}
    body = json.dumps({"type": event, "data": data}).encode()
    from django.conf import settings

    headers = sign([key or settings.PAYMENT_SECRET], message_id=id, timestamp=at or int(time.time()), body=body)
    return Client().post(CALLBACK, body, content_type="application/json", headers=headers)


def broken():
    return {name: lines for name, check in promises().items() if (lines := list(check()))}


def states(order):
    order.refresh_from_db()
    payment = Payment.objects.get(order=order)
    stock = Stock.objects.get()
    return order.status, payment.status, stock.on_hand, stock.reserved


def test_without_a_provider_orders_are_placed_as_ever(product):
    customer = make_customer()
    assert check_out(api(customer), make_cart({product: 1}, customer)).json()["status"] == "placed"
    assert not Payment.objects.exists()


def test_an_order_waits_until_its_customer_pays_and_then_everything_follows(provider, product):
    order, customer = buy(product, paying=False)
    drain()
    assert states(order) == ("unpaid", "pending", 10, 2)
    assert not provider.charges
    assert pay(api(make_customer()), order).status_code == 404
    told = [pay(customer, order), pay(customer, order)]
    assert [answer.status_code for answer in told] == [202, 202]
    assert told[0].json() == told[1].json()
    assert {row.name for row in DurableTask.objects.all() if row.subject == order.subject} == {"payments.tasks.charge"}
    assert customer.get(f"/api/orders/{order.pk}/payment/").json()["status"] == "pending"
    assert api(make_customer()).get(f"/api/orders/{order.pk}/payment/").status_code == 404
    assert broken() == {}
    drain()
    assert states(order) == ("placed", "paid", 8, 0)
    assert customer.get(f"/api/orders/{order.pk}/payment/").json()["paid_at"]
    assert EmailDelivery.objects.filter(order=order, kind="order_confirmation").exists()
    pass_time(hours=1)
    drain()
    assert states(order) == ("placed", "paid", 8, 0)
    assert broken() == {}
    assert set(provider.captured.values()) == {1}
    assert pay(customer, order).json()["status"] == "paid"


def test_presses_at_once_have_the_provider_asked_once(provider, product):
    order, customer = buy(product, paying=False)
    answers = all_at_once([lambda: pay(customer, order).status_code] * 8)
    assert answers == [202] * 8
    assert len(enqueued("payments.tasks.charge")) == 1


@pytest.mark.parametrize("how", ["too late", "cancelled", "expired"])
def test_what_waits_no_more_cannot_be_paid_and_the_provider_hears_nothing_of_it(provider, product, how):
    order, customer = buy(product, paying=False)
    if how == "cancelled":
        customer.post(f"/api/orders/{order.pk}/cancel/")
    else:
        Payment.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    if how == "expired":
        pass_time(minutes=31)
        drain()
        assert states(order) == ("expired", "failed", 10, 0)
    refused = pay(customer, order)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:shopwire:problem:not-payable")
    pass_time(hours=1)
    drain()
    assert states(order) == ("expired", "failed", 10, 0)
    assert not provider.charges
    assert broken() == {}


@pytest.mark.parametrize("mood", ["fail", "fail after", "hang"])
def test_a_provider_that_fails_or_hangs_is_asked_again_and_charges_once(provider, product, mood, monkeypatch):
    monkeypatch.setattr(provider_module, "TIMEOUT", 0.5)
    provider.moods = [mood]
    order, _ = buy(product)
    drain()
    assert states(order)[:2] == ("unpaid", "pending")
    pass_time(minutes=1)
    drain()
    assert states(order) == ("placed", "paid", 8, 0)
    assert list(provider.captured.values()) == [1]
    assert broken() == {}


def test_a_late_answer_comes_by_a_callback_and_a_second_one_changes_nothing(provider, product):
    provider.moods = ["silent"]
    order, _ = buy(product)
    drain()
    assert states(order)[:2] == ("unpaid", "pending")
    payment = Payment.objects.get()
    answers = [call_back(payment), call_back(payment), call_back(payment, id="msg_2")]
    assert [answer.status_code for answer in answers] == [204] * 3
    assert call_back(payment, id="msg_3", event="payment.declined").status_code == 204
    drain()
    assert states(order) == ("placed", "paid", 8, 0)
    assert StockMovement.objects.count() == 1
    assert len(enqueued("email_app.tasks.send_order_confirmation")) == 1
    assert broken() == {}


def test_the_answer_and_ten_callbacks_at_once_place_an_order_once(provider, product):
    order, _ = buy(product)
    payment = Payment.objects.get()
    calls = [lambda n=n: call_back(payment, id=f"msg_{n % 5}").status_code for n in range(10)]
    calls.append(lambda: settling.settle(payment.pk, payment.reference, Result.PAID))
    assert set(all_at_once(calls)[:10]) == {204}
    assert len(enqueued("store.tasks.update_inventory")) == 1
    assert len(enqueued("email_app.tasks.send_order_confirmation")) == 1
    drain()
    assert states(order) == ("placed", "paid", 8, 0)


def test_who_is_declined_tries_again_and_pays_once_whatever_becomes_of_the_first_try(provider, product):
    provider.moods = ["decline", "silent"]
    order, customer = buy(product)
    drain()
    assert states(order) == ("unpaid", "pending", 10, 2)
    told = customer.get(f"/api/orders/{order.pk}/payment/").json()
    assert (told["asked_at"], bool(told["declined_at"])) == (None, True)
    first = Payment.objects.get()

    answers = all_at_once([lambda: pay(customer, order).json()["declined_at"]] * 8)
    assert answers == [None] * 8
    second = Payment.objects.get()
    assert second.reference != first.reference
    drain()
    assert states(order) == ("unpaid", "pending", 10, 2)
    assert set(provider.charges) == {str(first.reference), str(second.reference)}

    provider.captured[str(first.reference)] += 1  # It thought better of it.
    assert call_back(first).status_code == 204
    assert call_back(first, id="msg_2", event="payment.declined").status_code == 204
    settling.settle(first.pk, first.reference, Result.DECLINED)  # An answer that was long under way.
    assert states(order)[:2] == ("unpaid", "pending")
    assert Payment.objects.get().declined_at is None
    assert call_back(second, id="msg_3").status_code == 204
    assert call_back(first, id="msg_4").status_code == 204
    drain()
    assert states(order) == ("placed", "paid", 8, 0)
    assert provider.captured - provider.refunded == {str(second.reference): 1}
    assert broken() == {}


def test_a_provider_that_thinks_better_of_what_it_declined_has_the_order_placed(provider, product):
    provider.moods = ["decline"]
    order, customer = buy(product)
    drain()
    assert call_back(Payment.objects.get()).status_code == 204
    assert pay(customer, order).json()["status"] == "paid"
    drain()
    assert states(order) == ("placed", "paid", 8, 0)
    assert len(provider.charges) == 1


def test_what_is_declined_and_not_tried_again_is_let_go_in_time(provider, product):
    provider.moods = ["decline"]
    order, customer = buy(product, 10)
    drain()
    assert check_out(customer, make_cart({product: 1})).status_code == 409
    Payment.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert pay(customer, order).status_code == 409
    pass_time(minutes=31)
    drain()
    assert states(order) == ("expired", "failed", 10, 0)
    assert not EmailDelivery.objects.filter(order=order).exists()
    assert broken() == {}
    assert check_out(customer, make_cart({product: 1})).status_code == 201


def test_who_tries_out_cards_has_no_more_than_ten_tries(provider, product):
    provider.moods = ["decline"] * 20
    order, customer = buy(product)
    drain()
    for _ in range(9):
        assert states(order)[:2] == ("unpaid", "pending")
        assert pay(customer, order).status_code == 202
        drain()
    assert states(order) == ("expired", "failed", 10, 0)
    assert pay(customer, order).status_code == 409
    assert len(provider.charges) == 10


def test_a_key_makes_one_try_of_a_request_that_comes_twice(provider, product):
    provider.moods = ["decline"] * 3
    order, customer = buy(product)
    drain()
    path = f"/api/orders/{order.pk}/payment/"
    for replayed in (None, "true", "true"):
        answer = customer.post(path, {}, format="json", headers={"Idempotency-Key": "second try"})
        assert (answer.status_code, answer.headers.get("Idempotent-Replayed")) == (202, replayed)
        drain()
    assert len(provider.charges) == 2


def test_an_order_that_is_paid_waits_for_nothing_on_its_timeline(provider, product):
    order, customer = buy(product)
    drain()
    told = customer.get(f"/api/orders/{order.pk}/tasks/").json()["results"]
    assert "payments.tasks.charge" in {task["task"] for task in told}
    assert {task["status"] for task in told} == {"succeeded"}
    assert DurableTask.objects.filter(name="payments.tasks.expire", status="pending").count() == 1


def test_what_is_not_paid_in_time_is_let_go_and_money_that_comes_later_goes_back(provider, product):
    provider.moods = ["silent"]
    order, _ = buy(product)
    drain()
    Payment.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    pass_time(minutes=31)
    drain()
    assert states(order) == ("expired", "failed", 10, 0)
    assert call_back(Payment.objects.get()).status_code == 204
    drain()
    assert states(order) == ("expired", "refunded", 10, 0)
    assert provider.captured == provider.refunded
    assert broken() == {}


def test_who_takes_an_unpaid_order_back_pays_nothing_even_if_the_provider_had_charged(provider, product, monkeypatch):
    monkeypatch.setattr(provider_module, "TIMEOUT", 0.5)
    provider.moods = ["fail after"]
    order, customer = buy(product)
    drain()
    assert list(provider.captured.values()) == [1]
    assert customer.post(f"/api/orders/{order.pk}/cancel/").json()["status"] == "expired"
    pass_time(minutes=1)
    drain()
    assert states(order) == ("expired", "failed", 10, 0)
    assert provider.captured == provider.refunded
    assert broken() == {}


@pytest.mark.fault("F211")
@pytest.mark.parametrize("mood", ["decline", "silent"])
def test_f211_an_unpaid_order_that_is_cancelled_ends_its_payment_at_once(provider, product, mood):
    provider.moods = [mood]
    order, customer = buy(product)
    drain()
    assert states(order) == ("unpaid", "pending", 10, 2)
    assert customer.post(f"/api/orders/{order.pk}/cancel/").json()["status"] == "expired"
    drain()
    assert states(order) == ("expired", "failed", 10, 0)
    assert pay(customer, order).status_code == 409
    assert broken() == {}


def test_a_paid_order_that_is_cancelled_is_paid_back_once(provider, product):
    order, customer = buy(product)
    drain()
    assert customer.post(f"/api/orders/{order.pk}/cancel/").json()["status"] == "cancelled"
    drain()
    assert states(order) == ("cancelled", "refunded", 10, 0)
    refunds.refund(Payment.objects.get().pk)
    assert list(provider.refunded.values()) == [1]
    assert broken() == {}


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"key": make_secret()}, 401),
        ({"at": 1_000_000_000}, 401),
        ({"amount": "0.01"}, 409),
        ({"currency": "USD"}, 409),
        ({"reference": "5f0c6a3e-8d0b-4d5e-9f63-0d6a1c2b7e11"}, 404),
        ({"reference": "x"}, 400),
        ({"event": "payment.refunded"}, 400),
    ],
)
def test_a_callback_that_is_forged_old_or_about_something_else_changes_nothing(provider, product, wrong, status):
    order, _ = buy(product)
    assert call_back(Payment.objects.get(), **wrong).status_code == status
    assert states(order) == ("unpaid", "pending", 10, 2)


def test_without_a_provider_no_callback_is_believed(settings):
    settings.PAYMENT_SECRET = ""
    headers = sign([""], message_id="msg_1", timestamp=int(time.time()), body=b"{}")
    assert Client().post(CALLBACK, b"{}", content_type="application/json", headers=headers).status_code == 401


def test_verify_names_an_order_that_stands_without_its_payment_and_one_that_is_overdue(provider, product):
    order, _ = buy(product)
    Payment.objects.update(expires_at=timezone.now() - timedelta(minutes=11))
    assert "No order is waiting for an overdue payment." in broken()
    drain()
    order.refresh_from_db()
    Order.objects.update(status="placed")
    Payment.objects.update(status="failed")
    assert "An order with a payment is placed if and only if it is paid." in broken()
