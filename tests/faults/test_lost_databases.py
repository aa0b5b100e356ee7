"""Databases that restart, freeze, refuse or fall silent: clients get true responses, and nothing needs a restart."""

import contextlib
import os
import socket
import threading
import time

import psycopg
import pytest
from django.db import connection

from celery_ledger.models import DurableTask
from store.models import Collection, Order
from tests import probe
from tests.faults.buyers import NO_ANSWER, Buyers
from tests.faults.invariants import broken, settle
from tests.faults.test_lost_processes import all_succeeded, enqueue
from tests.processes import wait_until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.postgresql,
    pytest.mark.skipif(
        os.environ.get("CELERY_BROKER_URL", "").startswith("amqp"), reason="shown with Redis: no broker breaks here"
    ),
]


@pytest.mark.fault("F28")
def test_f28_a_database_that_restarts_is_healed_without_restarting_anything(own_postgresql, machine):
    processes = [
        machine.start_web(),
        machine.start_relay(),
        machine.start_relay(),
        machine.start_worker(),
        machine.start_beat(),
    ]
    buyers = Buyers(40)
    buyers.place(machine.web_url, 5)
    settle()
    time.sleep(1.5)  # Everybody is asleep, as at night.
    own_postgresql.restart(seconds_away=1)
    connection.close()
    began = time.monotonic()
    buyers.place(machine.web_url, 5)
    settle(seconds=60)
    healed = time.monotonic() - began
    own_postgresql.restart()  # And in the midst of work.
    connection.close()
    buyers.begin(machine.web_url)
    wait_until("orders are placed", lambda: len(buyers.told) >= 20)
    own_postgresql.restart(seconds_away=1)
    connection.close()
    buyers.join()
    settle(seconds=60)
    print(f"F28: healed within {healed:.1f} s; answers {dict(buyers.statuses())}")
    assert healed < 25
    assert all(process.is_alive for process in processes)
    assert broken(buyers) == []


@pytest.mark.fault("F27")
@pytest.mark.slow_fault
def test_f27_a_database_that_dies_under_fifty_customers_keeps_every_order_it_told_of(own_postgresql, machine):
    machine.start_web()
    machine.start_relay()
    machine.start_worker()
    buyers = Buyers(400, customers=50)
    buyers.begin(machine.web_url, at_once=50)
    wait_until("orders are placed", lambda: len(buyers.told) >= 60)
    own_postgresql.restart(seconds_away=1)
    connection.close()
    buyers.join()
    settle(seconds=120)
    statuses = buyers.statuses()
    print(f"F27: {Order.objects.count()} orders, answers {dict(statuses)}")
    assert statuses[503] + statuses[NO_ANSWER] > 0, "nobody noticed"
    assert broken(buyers) == []


@pytest.mark.fault("F29")
def test_f29_a_commit_whose_answer_is_lost_is_one_order(machine, database_proxy):
    machine.start_web(DATABASE_URL=database_proxy.url)
    machine.start_relay()
    machine.start_worker()
    buyers = Buyers(3)
    buyers.place(machine.web_url)
    database_proxy.drop_answer_to(b"COMMIT")
    buyers.place(machine.web_url, 2)
    settle(seconds=90)
    print(f"F29: answers {[checkout.statuses for checkout in buyers.begun]}")
    assert database_proxy.dropped == 1
    assert [checkout.statuses for checkout in buyers.begun] == [[201], [503, 201], [201]]
    assert broken(buyers) == []


@pytest.mark.fault("F62")
@pytest.mark.slow_fault
def test_f62_a_web_process_that_is_cut_off_answers_soon_and_heals(machine, database_proxy):
    web = machine.start_web(DATABASE_URL=database_proxy.url)
    buyers = Buyers(30)
    buyers.begin(machine.web_url, at_once=3, pause=0.2)
    wait_until("orders are placed", lambda: len(buyers.told) >= 6)
    database_proxy.hang()
    hung_at = time.monotonic()
    wait_until("everybody is told to come back, twice", lambda: buyers.statuses()[503] >= 6, seconds=40)
    hung_for = time.monotonic() - hung_at
    database_proxy.let_through()
    buyers.join()
    machine.start_relay()
    machine.start_worker()
    settle(seconds=90)
    print(f"F62: hung for {hung_for:.1f} s; slowest answer {buyers.slowest(1):.1f} s; {dict(buyers.statuses())}")
    assert buyers.slowest(1) < 15 < hung_for
    assert web.is_alive
    assert broken(buyers) == []


@pytest.mark.fault("F61")
def test_f61_without_a_free_connection_requests_are_told_to_come_back(own_postgresql, machine):
    web = machine.start_web()
    buyers = Buyers(4)
    hoarded = []

    def hoard() -> None:
        while True:
            hoarded.append(psycopg.connect(own_postgresql.url(), connect_timeout=5))

    try:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            hoard()
        buyers.begin(machine.web_url, at_once=1)
        wait_until("somebody is told to come back", lambda: buyers.statuses()[503] >= 2)
    finally:
        for each in hoarded:
            each.close()
    buyers.join()
    machine.start_relay()
    machine.start_worker()
    settle()
    print(f"F61: {len(hoarded)} connections hoarded; slowest answer {buyers.slowest(1):.1f} s")
    assert buyers.slowest(1) < 10
    assert web.is_alive
    assert broken(buyers) == []


@pytest.mark.fault("F05")
def test_f05_an_order_that_waits_too_long_for_a_lock_is_a_503_and_no_order(machine):
    machine.start_web()
    buyers = Buyers(1)
    with psycopg.connect(machine.environment["DATABASE_URL"]) as holder:
        holder.execute("LOCK TABLE celery_ledger_durabletask IN ACCESS EXCLUSIVE MODE")  # Whatever a receiver hangs on.
        buyers.begin(machine.web_url, at_once=1)
        wait_until("it is told to come back", lambda: buyers.statuses()[503] >= 1, seconds=30)
        assert buyers.slowest(1) < 11
        assert Order.objects.count() == 0
    buyers.join()
    machine.start_relay()
    machine.start_worker()
    settle()
    print(f"F05: answers {dict(buyers.statuses())}, slowest {buyers.slowest(1):.1f} s")
    assert broken(buyers) == []


@pytest.mark.fault("F30")
def test_f30_without_the_results_table_effects_wait_and_happen_once(machine):
    machine.start_relay()
    machine.start_worker(concurrency=1)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_celery_results_taskresult RENAME TO away")
    try:
        enqueue(3)
        wait_until("it was tried", lambda: DurableTask.objects.filter(lapses__gt=0).exists(), seconds=30)
        assert Collection.objects.count() == 0
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO django_celery_results_taskresult")
    took = wait_until("all are done", all_succeeded, seconds=60)
    print(f"F30: done {took:.1f} s after the table was back")
    assert Collection.objects.count() == 3


@pytest.mark.fault("F45")
def test_f45_a_task_that_commits_long_after_others_is_not_overlooked(machine):
    machine.start_relay()
    machine.start_worker()
    with psycopg.connect(machine.environment["DATABASE_URL"]) as late:
        late.execute(
            "INSERT INTO celery_ledger_durabletask (id, name, queue, args, kwargs, available_at) VALUES "
            "('00000000-0000-7000-8000-000000000000', 'tests.make_collection', 'default', '[\"late\"]', '{}', now())"
        )
        enqueue(20)
        wait_until("the others are done", lambda: Collection.objects.count() == 20)
    took = wait_until("the late one is done", all_succeeded, seconds=30)
    print(f"F45: done {took:.2f} s after its commit")
    assert Collection.objects.filter(title="late").exists()


@pytest.mark.fault("F46")
def test_f46_a_relay_that_nobody_wakes_looks_for_itself(machine):
    machine.start_relay()
    machine.start_worker()
    probe.make_collection.delay("warm up")
    wait_until("it is done", all_succeeded)
    time.sleep(1)
    with connection.cursor() as cursor:  # By hand, without the statement that wakes the relay.
        cursor.execute(
            "INSERT INTO celery_ledger_durabletask (id, name, queue, args, kwargs, available_at) VALUES "
            "('00000000-0000-7000-8000-000000000000', 'tests.make_collection', 'default', '[\"alone\"]', '{}', now())"
        )
    took = wait_until("it is done", all_succeeded, seconds=30)
    print(f"F46: done {took:.2f} s after its commit")
    assert took < 20  # It looks once a second; the machine may be busy.


class Recovering:
    """In a PostgreSQL's place, on its port, while it recovers: it answers, and refuses connections."""

    def __init__(self, port):
        self.refused = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                with link:
                    while link.recv(1024)[4:8] in (TLS, GSS):
                        link.sendall(b"N")
                    body = b"SFATAL\0VFATAL\0C57P03\0Mdas Datenbanksystem startet\0\0"
                    link.sendall(b"E" + (len(body) + 4).to_bytes(4, "big") + body)
                    self.refused += 1

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


TLS, GSS = (80877103).to_bytes(4, "big"), (80877104).to_bytes(4, "big")


@pytest.mark.fault("F93")
@pytest.mark.postgresql
def test_f93_a_relay_that_is_started_while_its_database_recovers_waits_for_it(own_postgresql, machine):
    connection.close()
    own_postgresql.stop_at_once()
    recovering = Recovering(own_postgresql.port)
    relay = machine.start_relay(wait=False)
    wait_until("it was refused", lambda: recovering.refused >= 3)
    wait_until("it says so", lambda: relay.says("The database is starting or recovering"))
    assert relay.is_alive
    recovering.close()
    own_postgresql.start()
    wait_until("the relay is ready", lambda: relay.says("The relay is ready"))
