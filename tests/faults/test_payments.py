"""Payments through a real relay, real workers and a real web process, with a provider that misbehaves."""

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from celery_ledger.models import DurableTask
from payments import settling
from payments.fake import FakeProvider
from payments.models import Payment
from payments.provider import Result
from store.models import Order
from tests.processes import free_port, wait_until
from tests.shop import api, make_customer, make_product, place_order
from webhooks.signing import make_secret

pytestmark = [pytest.mark.processes, pytest.mark.postgresql, pytest.mark.timeout(400)]


@pytest.mark.slow_fault
@pytest.mark.fault("F134")
def test_f134_an_order_is_paid_once_by_a_provider_that_misbehaves_to_workers_that_are_killed(machine, settings):
    settings.PAYMENT_SECRET = make_secret()
    steps = {
        "email": "payments.before_charge",
        "inventory": "payments.after_charge",
        "analytics": "payments.after_commit",
    }
    moods = ["fail", "fail after", "hang", "late", "twice", "decline"]
    port = free_port()
    with FakeProvider(0, f"http://127.0.0.1:{port}/api/payments/callback/", settings.PAYMENT_SECRET) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        settings.PAYMENT_URL = provider.url
        environment = {
            "PAYMENT_URL": provider.url,
            "PAYMENT_SECRET": settings.PAYMENT_SECRET,
            "LEDGER_RUNNING_LEASE": "2",
        }
        product = make_product(stock=100)
        killed = {queue: order_paying(product) for queue in steps}
        for queue, order in killed.items():  # Each meets its own fault.
            assert charges_of(order).update(queue=queue) == 1
        machine.start_web(port, **environment)
        workers = [
            machine.start_worker("-Q", queue, concurrency=1, wait=False, FAULT=step, **environment)
            for queue, step in steps.items()
        ]
        machine.start_relay(**environment)
        for worker, step in zip(workers, steps.values(), strict=True):
            wait_until(f"the process is killed at {step}", lambda worker=worker: worker.says("signal 9 (SIGKILL)"))
            worker.kill()
        charged_before = provider.captured.total()
        assert charged_before == 2  # One was killed before it asked.

        provider.moods = list(moods)
        others = [order_paying(product) for _ in moods]
        machine.start_worker(concurrency=4, **environment)
        declined = Payment.objects.filter(status="pending").exclude(declined_at=None)
        wait_until("one is declined", declined.exists, seconds=90)
        order = declined.get().order
        assert api(order.customer).post(f"/api/orders/{order.pk}/payment/").status_code == 202
        wait_until("each is settled", lambda: not Payment.objects.filter(status="pending").exists(), seconds=90)
        provider.released.set()
        waiting = DurableTask.objects.exclude(status="succeeded").exclude(name="payments.tasks.expire")
        wait_until("nothing is left", lambda: not waiting.exists(), seconds=90)
        verdict = machine.run_command("outbox", "verify", **environment)

    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    statuses = list(Order.objects.values_list("status", flat=True))
    assert statuses == ["placed"] * (len(others) + len(killed))
    assert set(provider.captured.values()) == {1}
    assert provider.captured.total() == len(statuses)
    assert len(provider.charges) == len(statuses) + 1
    assert provider.refunded.total() == 0
    assert provider.heard.count(204) >= 3


class Refunding(FakeProvider):
    """Counts how often it is asked for money, under whichever reference."""

    times_asked = 0

    def refund(self, wish):
        self.times_asked += 1
        super().refund(wish)


@pytest.mark.slow_fault
@pytest.mark.fault("F210")
@pytest.mark.parametrize(
    ("task", "step"),
    [
        ("refund", "payments.after_refund"),
        ("refund", "payments.after_returned"),
        ("void", "payments.after_void"),
        ("void_declined", "payments.after_void"),
    ],
)
def test_f210_money_that_a_killed_worker_was_giving_back_goes_back_once(machine, settings, task, step):
    settings.PAYMENT_SECRET = make_secret()
    with Refunding(0, "http://127.0.0.1:1/", settings.PAYMENT_SECRET) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        settings.PAYMENT_URL = provider.url
        order = order_paying(make_product(stock=100))
        payment = order.payment
        provider.charge({"reference": str(payment.reference), "amount": "1.00", "currency": "GBP"})
        have_it_go_back(task, order)
        DurableTask.objects.exclude(name=f"payments.tasks.{task}").delete()  # So that the fault meets this one.
        environment = {
            "PAYMENT_URL": provider.url,
            "PAYMENT_SECRET": settings.PAYMENT_SECRET,
            "LEDGER_RUNNING_LEASE": "2",
        }
        machine.start_relay(**environment)
        worker = machine.start_worker(concurrency=1, FAULT=step, **environment)
        wait_until("the fault landed", lambda: worker.says("signal 9 (SIGKILL)"))
        worker.kill()
        assert provider.times_asked >= 1
        asked_before = provider.times_asked
        machine.start_worker(concurrency=1, **environment)
        ended = DurableTask.objects.filter(status="succeeded")
        wait_until("it is done", ended.exists, seconds=60)
        # It is asked anew where nothing says that it has given the money back.
        assert provider.times_asked == asked_before + (step != "payments.after_returned")
    assert provider.refunded == {str(payment.reference): 1} == provider.captured
    if task == "refund":
        payment.refresh_from_db()
        assert payment.status == "refunded"


def have_it_go_back(task, order):
    """Have the money of a paying order go back, for the reason that each of the tasks is for."""
    payment = order.payment
    if task == "refund":
        settling.settle(payment.pk, payment.reference, Result.PAID)
        assert api(order.customer).post(f"/api/orders/{order.pk}/cancel/").status_code == 200
    elif task == "void":
        Payment.objects.filter(pk=payment.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
        settling.expire(payment.pk)
    else:
        settling.settle(payment.pk, payment.reference, Result.DECLINED)
        assert api(order.customer).post(f"/api/orders/{order.pk}/payment/").status_code == 202


def order_paying(product):
    customer = make_customer()
    order = place_order(customer, {product: 1})
    assert api(customer).post(f"/api/orders/{order.pk}/payment/").status_code == 202
    return order


def charges_of(order):
    return DurableTask.objects.filter(name="payments.tasks.charge", args=[order.payment.pk])
