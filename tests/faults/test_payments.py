"""Payments through a real relay, real workers and a real web process, with a provider that misbehaves."""

import threading

import pytest

from celery_ledger.models import DurableTask
from payments.fake import FakeProvider
from payments.models import Payment
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


def order_paying(product):
    customer = make_customer()
    order = place_order(customer, {product: 1})
    assert api(customer).post(f"/api/orders/{order.pk}/payment/").status_code == 202
    return order


def charges_of(order):
    return DurableTask.objects.filter(name="payments.tasks.charge", args=[order.payment.pk])
