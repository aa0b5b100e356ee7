"""``outbox verify`` reports mails if and only if one is lost."""

import pytest
from django.db import transaction
from django.db.models.functions import Now

from celery_ledger.models import DurableTask
from celery_ledger.promises import promises
from email_app import promises as audit
from email_app import tasks
from email_app.models import EmailDelivery
from store.models import Order
from store.signals import order_cancelled, order_created
from tests.shop import make_order

pytestmark = pytest.mark.django_db


def announce(order, *, signal=order_created):
    with transaction.atomic():
        signal.send_robust(sender=Order, order=order)


def test_a_sent_mail_is_a_kept_promise():
    order = make_order(status=Order.Status.CANCELLED)
    tasks.send_order_confirmation(order.pk)
    tasks.send_order_cancellation(order.pk)
    assert list(audit.orders_without_confirmation()) == []
    assert list(audit.cancelled_orders_without_mail()) == []


def test_an_order_without_mail_and_task_is_named():
    make_order()
    order = make_order(status=Order.Status.CANCELLED)
    assert len(list(audit.orders_without_confirmation())) == 2
    (line,) = audit.cancelled_orders_without_mail()
    assert line.startswith(f"order {order.pk} ")


@pytest.mark.parametrize("status", ["pending", "published", "running", "dead", "cancelled"])
def test_a_mail_with_an_open_or_dead_task_is_accounted_for(status):
    order = make_order(status=Order.Status.CANCELLED)
    announce(order)
    announce(order, signal=order_cancelled)
    DurableTask.objects.update(status=status)
    assert list(audit.orders_without_confirmation()) == []
    assert list(audit.cancelled_orders_without_mail()) == []


def test_a_task_that_succeeded_without_a_sent_mail_is_a_lost_mail():
    order = make_order()
    announce(order)
    DurableTask.objects.update(status="succeeded")
    assert len(list(audit.orders_without_confirmation())) == 1
    EmailDelivery.objects.create(kind="order_confirmation", order=order, recipient="a@example.com", message_id="1")
    assert len(list(audit.orders_without_confirmation())) == 1


def test_a_task_about_another_order_accounts_for_nothing():
    announce(make_order())
    order = make_order()
    (line,) = audit.orders_without_confirmation()
    assert line.startswith(f"order {order.pk} ")


def test_a_mail_that_was_refused_for_good_is_accounted_for_without_its_task():
    order = make_order()
    EmailDelivery.objects.create(
        kind="order_confirmation", order=order, recipient="a@example.com", message_id="1", status="failed"
    )
    assert list(audit.orders_without_confirmation()) == []


def test_a_receiver_that_is_sent_the_signal_again_accounts_for_its_mail():
    first, second = make_order(), make_order()
    for order, receiver in ((first, "email_app.enqueue_order_confirmation"), (second, "somebody.else")):
        DurableTask.objects.create(
            name="celery_ledger.tasks.redeliver",
            queue="default",
            subject=f"store.order:{order.pk}",
            kwargs={"signal": "store.order_created", "dispatch_uid": receiver, "arguments": {}},
        )
    (line,) = audit.orders_without_confirmation()
    assert line.startswith(f"order {second.pk} ")


def test_an_order_mail_without_order_is_named():
    EmailDelivery.objects.create(kind="welcome", recipient="a@example.com", message_id="1")
    assert list(audit.mails_without_order()) == []
    EmailDelivery.objects.create(kind="order_confirmation", recipient="a@example.com", message_id="2")
    assert len(list(audit.mails_without_order())) == 1


def test_a_time_that_does_not_fit_the_status_is_named():
    EmailDelivery.objects.create(kind="welcome", recipient="a@example.com", message_id="1", status="sent")
    EmailDelivery.objects.create(kind="welcome", recipient="a@example.com", message_id="2", sent_at=Now())
    assert len(list(audit.mails_with_a_wrong_time())) == 2


def test_the_promises_are_registered_and_cost_a_constant_number_of_queries(django_assert_max_num_queries):
    for order in [make_order() for _ in range(5)]:
        announce(order)
    mine = [violations for violations in promises().values() if violations.__module__ == "email_app.promises"]
    assert len(mine) == 6
    with django_assert_max_num_queries(10):
        assert [line for violations in mine for line in violations()] == []
