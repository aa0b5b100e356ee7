"""Mails against a real SMTP server, good and bad."""

import smtplib
import socket

import pytest
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.db.models.functions import Now
from django_celery_results.models import TaskResult

from celery_ledger.errors import PermanentError
from celery_ledger.models import DurableTask
from celery_ledger.testing import drain
from email_app import outgoing, promises, tasks
from email_app.models import EmailDelivery
from store.models import Order
from store.signals import order_created
from tests.shop import make_customer, make_order

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(mail_server):
    return mail_server


def confirm(order):
    """Run one attempt as a worker does; return what it raised."""
    try:
        tasks.send_order_confirmation(order.pk)
    except (OSError, PermanentError, outgoing.MailDeferredError) as error:
        return error
    return None


def status_of(order):
    return EmailDelivery.objects.get(order=order).status


def test_a_mail_arrives_whole(server):
    order = make_order(customer=make_customer(first_name="Zoë 🫖"), lines=2)
    assert confirm(order) is None
    (message,) = server.received
    assert message["To"] == order.customer.user.email
    assert message["Message-ID"] == EmailDelivery.objects.get().message_id
    assert message["Auto-Submitted"] == "auto-generated"
    for kind in ("plain", "html"):
        assert "Zoë 🫖" in message.get_body([kind]).get_content()


def test_mails_share_one_connection(server):
    orders = [make_order() for _ in range(5)]
    assert [confirm(order) for order in orders] == [None] * 5
    assert len(server.received) == 5
    assert server.connections == 1


def test_a_connection_that_rested_is_asked_first_and_replaced_if_it_is_gone(server, monkeypatch):
    assert confirm(make_order()) is None
    monkeypatch.setattr(outgoing, "PROBE_AFTER", -1.0)
    assert confirm(make_order()) is None
    assert server.connections == 1
    outgoing._kept.backend.connection.sock.shutdown(2)  # As a server does that tired of waiting.
    assert confirm(make_order()) is None
    assert server.connections == 2
    assert len(server.received) == 3


def test_a_connection_that_rested_too_long_is_replaced(server, monkeypatch):
    assert confirm(make_order()) is None
    monkeypatch.setattr(outgoing, "MAX_REST", -1.0)
    assert confirm(make_order()) is None
    assert server.connections == 2


def test_a_server_that_is_busy_gets_the_mail_later(server):
    order = make_order()
    server.answers.append("451 4.3.2 busy, user0@example.com")
    error = confirm(order)
    assert isinstance(error, outgoing.MailDeferredError)
    assert str(error) == "The mail server refused the mail: 451 4.3.2."
    assert status_of(order) == "pending"
    assert confirm(order) is None
    assert status_of(order) == "sent"
    assert len(server.received) == 1


def test_a_recipient_that_is_refused_for_now_is_tried_again_and_not_named(server):
    order = make_order()
    address = order.customer.user.email
    server.refused[address] = f"450 4.2.1 {address} is busy"
    error = confirm(order)
    assert isinstance(error, outgoing.MailDeferredError)
    assert str(error) == "The mail server refused the recipient: 450 4.2.1."


@pytest.mark.parametrize("stage", ["recipient", "mail"])
def test_what_the_server_refuses_for_good_fails_at_once_and_names_nobody(server, stage):
    order = make_order()
    address = order.customer.user.email
    answer = f"550 5.1.1 <{address}> unknown"
    if stage == "recipient":
        server.refused[address] = answer
    else:
        server.answers.append(answer)
    error = confirm(order)
    assert isinstance(error, PermanentError)
    assert str(error) == f"The mail server refused the {stage}: 550 5.1.1."
    row = EmailDelivery.objects.get()
    assert (row.status, row.error) == ("failed", str(error))
    assert server.received == []


def test_a_refused_mail_does_not_hurt_the_next_one(server):
    server.answers.append("550 no")
    confirm(make_order())
    assert confirm(make_order()) is None


@pytest.mark.fault("F54")
def test_a_lost_answer_makes_a_second_copy_with_the_same_message_id(server):
    order = make_order()
    server.answers.append("drop")
    error = confirm(order)
    assert isinstance(error, OSError)
    assert status_of(order) == "pending"
    assert confirm(order) is None
    assert confirm(order) is None
    first, second = server.received
    assert first["Message-ID"] == second["Message-ID"]
    assert first["To"] == second["To"]


def test_a_server_that_stalls_is_left_after_the_timeout(server, settings):
    settings.EMAIL_TIMEOUT = 0.3
    order = make_order()
    server.answers.append("stall")
    error = confirm(order)
    assert isinstance(error, OSError)
    assert "timed out" in str(error)
    assert status_of(order) == "pending"
    assert confirm(order) is None


def test_a_server_that_is_not_there_is_tried_again(server, settings):
    order = make_order()
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        settings.EMAIL_PORT = nobody_listens.getsockname()[1]
        assert isinstance(confirm(order), ConnectionRefusedError)
    assert status_of(order) == "pending"
    settings.EMAIL_PORT = server.port
    assert confirm(order) is None


def announce(order):
    with transaction.atomic():
        order_created.send_robust(sender=Order, order=order)


def task_of(order):
    return DurableTask.objects.get(subject=f"store.order:{order.pk}", queue="email")


def be_later():
    """Make every retry due, as the passing of its backoff does."""
    DurableTask.objects.filter(status="pending").update(available_at=Now())


@pytest.mark.fault("F52")
@pytest.mark.django_db(transaction=True)
def test_through_the_ledger_a_busy_server_costs_an_attempt_and_no_mail(server):
    order = make_order()
    drain()  # The welcome.
    announce(order)
    server.answers.append("451 busy")
    drain()
    assert (task_of(order).status, task_of(order).attempts) == ("pending", 1)
    be_later()
    drain()
    assert (task_of(order).status, task_of(order).attempts) == ("succeeded", 2)
    assert [message["Subject"] for message in server.received] == [
        "Welcome to Shopwire",
        f"Your Shopwire order {order.pk}",
    ]


@pytest.mark.fault("F52")
@pytest.mark.django_db(transaction=True)
def test_through_the_ledger_what_is_refused_for_good_dies_at_the_first_attempt(server):
    order = make_order()
    announce(order)
    server.refused[order.customer.user.email] = "550 5.1.1 unknown"
    drain()
    task = task_of(order)
    assert (task.status, task.attempts) == ("dead", 1)
    assert task.last_error == "MailRefusedError: The mail server refused the recipient: 550 5.1.1."
    assert status_of(order) == "failed"
    assert list(promises.orders_without_confirmation()) == []


@pytest.mark.django_db(transaction=True)
def test_no_trouble_writes_an_address_into_ledger_results_or_log(server, caplog):
    order = make_order(customer=make_customer(email="canary@example.com", first_name="Canary"))
    announce(order)
    answers = [
        "451 <canary@example.com> is busy",
        "drop",
        "450 canary@example.com",
        "550 5.1.1 <canary@example.com> unknown",
    ]
    for answer in answers:
        if answer.startswith("450"):
            server.refused["canary@example.com"] = answer
        else:
            server.refused.clear()
            server.answers.extend([answer, answer])  # To the welcome and to the confirmation.
        be_later()
        drain()
    assert set(DurableTask.objects.filter(queue="email").values_list("status", flat=True)) == {"dead"}
    written = [
        *map(str, DurableTask.objects.values_list()),
        *map(str, TaskResult.objects.values_list()),
        *map(str, EmailDelivery.objects.values_list("error", "message_id")),
        # aiosmtpd's own log is the server's.
        *(caplog.handler.format(record) for record in caplog.records if record.name != "mail.log"),
    ]
    assert TaskResult.objects.filter(status="FAILURE").count() == 2
    assert [line for line in written if "canary" in line.lower()] == []


class OvertakenBackend(BaseEmailBackend):
    """A server that refuses a mail which another worker has sent in the meantime."""

    def send_messages(self, email_messages):
        EmailDelivery.objects.update(status="sent", sent_at=Now())
        raise smtplib.SMTPDataError(550, b"no")


def test_a_mail_that_another_worker_sent_meanwhile_stays_sent(server, settings):
    settings.EMAIL_BACKEND = f"{__name__}.OvertakenBackend"
    order = make_order()
    assert confirm(order) is None
    assert status_of(order) == "sent"
