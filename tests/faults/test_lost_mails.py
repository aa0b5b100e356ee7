"""A worker that dies while it sends a mail: no mail is lost, and a second copy is sent only where documented."""

import threading
from email import message_from_bytes, policy

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from celery_ledger.models import DurableTask, Tally
from email_app.models import EmailDelivery
from email_app.promises import orders_without_confirmation
from email_app.tasks import send_order_confirmation
from store.models import Order
from store.signals import order_created
from tests.faults.buyers import Buyers
from tests.faults.invariants import broken, doubled, settle
from tests.processes import wait_until
from tests.shop import make_order
from tests.tcp_proxy import tcp_proxy

pytestmark = [pytest.mark.processes, pytest.mark.once]


@pytest.mark.fault("F08", "F54")
@pytest.mark.parametrize(
    ("place", "copies"),
    [("consumer.before_effect", 1), ("mail.before_record", 2), ("consumer.after_effect", 1)],
)
def test_a_worker_that_dies_at_any_moment_of_a_mail(machine, place, copies):
    order = make_order()
    DurableTask.objects.all().delete()  # The welcome is not what this is about.
    machine.start_relay()
    worker = machine.start_worker(concurrency=1, FAULT=place)
    (child,) = worker.children()
    with transaction.atomic():
        order_created.send_robust(sender=Order, order=order)
        DurableTask.objects.exclude(queue="email").delete()
    wait_until("the fault landed", lambda: child not in worker.children())
    worker.kill()
    machine.start_worker(concurrency=1)
    tasks = DurableTask.objects.filter(queue="email")
    wait_until("the mail is sent", lambda: set(tasks.values_list("status", flat=True)) == {"succeeded"})

    files = sorted((machine.folder / "mail").glob("*.eml"))
    mails = [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]
    assert len(mails) == copies
    delivery = EmailDelivery.objects.get()
    assert {mail["Message-ID"] for mail in mails} == {delivery.message_id}
    assert delivery.status == "sent"
    assert tasks.get().attempts == 2
    assert list(orders_without_confirmation()) == []


@pytest.mark.fault("F51")
def test_f51_mails_wait_for_a_mail_server_that_is_away_and_orders_do_not(machine, mail_server):
    port = mail_server.port
    with tcp_proxy("127.0.0.1", port) as proxy:
        proxy.refuse()
        machine.environment["EMAIL_URL"] = f"smtp://127.0.0.1:{proxy.port}"
        machine.start_web()
        machine.start_relay()
        machine.start_worker()
        buyers = Buyers(5)
        buyers.place(machine.web_url, 5)
        others = DurableTask.objects.exclude(queue="email")
        wait_until("all else is done", lambda: not others.exclude(status="succeeded").exists())
        mails = DurableTask.objects.filter(queue="email")
        wait_until("mails were tried", lambda: mails.filter(attempts__gte=1, status="pending").count() >= 5)
        assert mail_server.received == []
        proxy.let_through()
        took = settle(seconds=60)
    print(f"F51: sent {took:.1f} s after the server was back; slowest checkout {buyers.slowest(1) * 1000:.0f} ms")
    assert broken(buyers, mail_server.received) == []
    assert doubled(mail_server.received) == 0


@pytest.mark.fault("F53")
def test_f53_a_mail_server_that_stalls_holds_up_mails_and_nothing_else(machine, mail_server):
    mail_server.answers.extend(["stall"] * 2)
    buyers = Buyers(10, customers=1)
    DurableTask.objects.all().delete()  # The welcomes are not what this is about.
    machine.start_web()
    machine.start_relay()
    machine.start_worker("-Q", "email", concurrency=1)
    machine.start_worker("-Q", "default,inventory,analytics,notifications,scheduled", concurrency=1)
    buyers.place(machine.web_url, 10)
    others = DurableTask.objects.exclude(queue="email")
    took = wait_until("all else is done", lambda: not others.exclude(status="succeeded").exists(), seconds=18)
    assert DurableTask.objects.filter(queue="email").exclude(status="succeeded").count() == 10
    settled = settle(seconds=90)
    print(f"F53: all else done in {took:.1f} s, the mails {settled:.1f} s later")
    assert broken(buyers, mail_server.received) == []
    assert doubled(mail_server.received) == 0


@pytest.mark.fault("F28", "F54")
@pytest.mark.postgresql
def test_f28_f54_a_mail_that_is_out_while_the_database_is_away_is_recorded_and_not_sent_again(
    own_postgresql, machine, mail_server
):
    machine.start_relay()
    machine.start_worker(concurrency=1)
    DurableTask.objects.all().delete()
    order = make_order()
    wait_until("the welcome is sent", lambda: len(mail_server.received) == 1)
    settle()
    back = threading.Timer(2, own_postgresql.start)

    def go_away() -> None:
        own_postgresql.stop_at_once()
        back.start()

    mail_server.before_answer = go_away
    send_order_confirmation.delay(order.pk)
    wait_until("the fault landed", lambda: back.is_alive() or back.finished.is_set())
    back.join()
    connection.close()
    settle(seconds=60)
    sent = [mail for mail in mail_server.received if str(order.pk) in mail["Subject"]]
    print(f"F28: {len(sent)} copies of a mail during which the database went away")
    assert len(sent) == 1
    assert EmailDelivery.objects.get(order=order).status == "sent"


@pytest.mark.fault("F88")
def test_f88_mails_that_wait_for_longer_than_a_lease_are_published_once_each(machine, mail_server):
    """As a server that takes 2 s for a mail and a lease of a minute, ten times as fast."""
    mail_server.delay = 0.4
    machine.environment |= {"TASK_TIME_LIMIT": "6", "LEDGER_PUBLISHED_LEASE": "6"}
    orders = [make_order() for _ in range(50)]
    DurableTask.objects.all().delete()  # The welcomes are not what this is about.
    machine.start_relay()
    machine.start_worker(concurrency=1)
    for order in orders:
        send_order_confirmation.delay(order.pk)
    mails = DurableTask.objects.filter(queue="email")
    wait_until("all are sent", lambda: not mails.exclude(status="succeeded").exists(), seconds=90)
    wait_until("the relay has counted", lambda: told("published") >= len(orders))
    print(f"F88: {told('published')} publications of {len(orders)} mails, {told('rescued')} rescued")
    assert len(mail_server.received) == len(orders)
    assert told("rescued") == 0
    assert told("published") <= 1.05 * len(orders)


def told(outcome):
    """How often the tally has this of mails."""
    return Tally.objects.filter(queue="email", outcome=outcome).aggregate(Sum("rows"))["rows__sum"] or 0
