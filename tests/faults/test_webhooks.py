"""Webhooks through a real relay and real workers, to a receiver that fails and under a worker that is killed."""

import threading

import pytest

from celery_ledger.models import DurableTask
from tests.processes import wait_until
from tests.shop import place_order
from tests.webhook_receiver import is_genuine, receiver
from webhooks.models import WebhookDelivery, WebhookEndpoint

pytestmark = [pytest.mark.processes, pytest.mark.postgresql]


def order_placed():
    return WebhookDelivery.objects.get(subject=place_order().subject)


@pytest.mark.fault("F127")
def test_f127_a_webhook_outlives_a_receiver_that_fails_and_a_worker_that_is_killed_in_the_middle(machine):
    released = threading.Event()

    def hold(handler):
        released.wait(60)

    with receiver() as server:
        endpoint = WebhookEndpoint.objects.create(url=server.url, events=["order.created"])
        machine.start_relay(WEBHOOKS_TO_LOCALHOST="1")
        patience = {"WEBHOOKS_TO_LOCALHOST": "1", "LEDGER_RUNNING_LEASE": "2"}
        worker = machine.start_worker("-Q", "webhooks", concurrency=2, **patience)

        server.answers = [500, 200]
        first = order_placed()
        wait_until("the first is delivered", lambda: is_settled(first))
        assert server.ids == [first.message_id] * 2

        server.answers = [hold]
        second = order_placed()
        wait_until("the receiver holds the second", lambda: len(server.taken) == 3)
        third = order_placed()
        wait_until("the third waits", lambda: WebhookDelivery.objects.get(pk=third.pk).waiting)
        asked = DurableTask.objects.filter(name="webhooks.tasks.deliver", args=[third.pk])
        wait_until("it has no task any more", asked.filter(status="succeeded").exists)
        worker.kill()
        machine.start_worker("-Q", "notifications", concurrency=2, **patience)
        wait_until("both are delivered", lambda: is_settled(second) and is_settled(third))
        released.set()

    assert server.ids[2:] == [second.message_id, second.message_id, third.message_id]
    assert all(is_genuine(headers, body, endpoint.secret) for headers, body in server.taken)
    assert len({body for _, body in server.taken}) == 3
    assert [each.status_code for each in first.attempts.all()] == [500, 200]
    assert [each.status_code for each in second.attempts.all()] == [200]


@pytest.mark.slow_fault
@pytest.mark.fault("F133")
def test_f133_a_worker_killed_between_any_two_steps_of_a_delivery_leaves_it_to_another(machine):
    steps = {
        "email": "webhooks.before_send",
        "inventory": "webhooks.after_send",
        "analytics": "webhooks.before_commit",
        "default": "webhooks.after_commit",
    }
    patience = {"WEBHOOKS_TO_LOCALHOST": "1", "LEDGER_RUNNING_LEASE": "2"}
    with receiver() as server:
        deliveries = {}
        for queue in steps:  # Each has an endpoint and a queue of its own, so that each meets its own fault.
            endpoint = WebhookEndpoint.objects.create(url=server.url, events=["order.created"])
            deliveries[queue] = order_placed()
            endpoint.events = []
            endpoint.save()
            # Written before any relay runs.
            ours = DurableTask.objects.filter(name="webhooks.tasks.deliver", args=[deliveries[queue].pk])
            assert ours.update(queue=queue) == 1
        DurableTask.objects.exclude(name="webhooks.tasks.deliver").delete()

        workers = [
            machine.start_worker("-Q", queue, concurrency=1, wait=False, FAULT=step, **patience)
            for queue, step in steps.items()
        ]
        machine.start_relay(**patience)
        for worker, step in zip(workers, steps.values(), strict=True):
            wait_until(f"the process is killed at {step}", lambda worker=worker: worker.says("signal 9 (SIGKILL)"))
            worker.kill()
        heard_before = {each.message_id: server.ids.count(each.message_id) for each in deliveries.values()}
        assert heard_before[deliveries["email"].message_id] == 0
        assert all(heard_before[deliveries[queue].message_id] for queue in list(steps)[1:])
        machine.start_worker(concurrency=2, **patience)
        wait_until("all are delivered", lambda: all(is_settled(each) for each in deliveries.values()))
        wait_until("no task is left", lambda: not DurableTask.objects.exclude(status="succeeded").exists())

    assert set(server.ids) == {each.message_id for each in deliveries.values()}
    assert len({body for _, body in server.taken}) == len(steps)
    assert all(each.attempts.exclude(error="").count() == 0 for each in deliveries.values())
    assert [each.attempts.count() for each in deliveries.values()] == [1, 1, 1, 1]
    # What was recorded before the kill is not sent again.
    recorded = deliveries["default"].message_id
    assert server.ids.count(recorded) == heard_before[recorded] == 1


def is_settled(delivery):
    return WebhookDelivery.objects.get(pk=delivery.pk).status == "delivered"
