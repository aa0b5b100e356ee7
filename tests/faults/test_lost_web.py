"""A web process that dies, is replaced, or runs out of disk: responses are true, and each order is placed once."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from django.db import connection

from celery_ledger.models import DurableTask
from store.models import Order
from tests import probe
from tests.faults.buyers import NO_ANSWER, Buyers
from tests.faults.invariants import broken, settle
from tests.faults.test_lost_processes import all_succeeded
from tests.processes import database_url, wait_until
from tests.shop import make_user

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(
    ("place", "orders"),
    [
        pytest.param("checkout.before_commit", 0, marks=pytest.mark.fault("F01")),
        pytest.param("checkout.after_commit", 1, marks=pytest.mark.fault("F02")),
    ],
)
def test_f01_f02_a_web_process_that_dies_around_the_commit_makes_one_order(machine, place, orders):
    web = machine.start_web(FAULT=place)
    buyers = Buyers(3)
    buyers.begin(machine.web_url, at_once=1)
    wait_until("the fault landed", lambda: not web.is_alive)
    assert Order.objects.count() == orders
    assert DurableTask.objects.filter(name="store.tasks.update_inventory").count() == orders
    machine.start_web(machine.web_port)
    buyers.join()
    machine.start_relay()
    machine.start_worker()
    settle()
    first = buyers.checkouts[0]
    print(f"{place}: answers to the first checkout {first.statuses}")
    assert first.statuses[0] == NO_ANSWER
    assert first.statuses[-1] == 201
    assert broken(buyers) == []


@pytest.mark.fault("F56")
@pytest.mark.slow_fault
def test_f56_a_deploy_under_load_loses_nothing_and_shows_customers_nothing_worse_than_a_closed_door(machine):
    web, relay = machine.start_web(), machine.start_relay()
    workers = [machine.start_worker(), machine.start_worker()]
    buyers = Buyers(4_000)  # At 40 a second at the most: more than can be had before the old ones are gone.
    buyers.begin(machine.web_url, at_once=2, pause=0.05)
    wait_until("orders are placed", lambda: len(buyers.told) >= 30)
    old = [*workers, relay, web]
    exits = [process.stop(seconds=60) for process in old]
    machine.start_web(machine.web_port)
    machine.start_relay()
    machine.start_worker()
    before = len(buyers.told)
    wait_until("the new ones take orders", lambda: len(buyers.told) >= before + 30)
    buyers.stop()
    settle(seconds=90)
    statuses = buyers.statuses()
    print(f"F56: {len(buyers.told)} orders, answers {dict(statuses)}, exit codes {exits}")
    assert exits == [0, 0, 0, -signal.SIGTERM]  # Uvicorn ends itself with what asked it to end, when all is done.
    assert set(statuses) <= {201, NO_ANSWER}
    assert broken(buyers) == []


@pytest.mark.fault("F59")
def test_f59_four_writers_at_once_never_meet_a_locked_database(machine):
    machine.start_web()
    machine.start_relay()
    workers = [machine.start_worker(), machine.start_worker()]
    buyers = Buyers(120)
    buyers.begin(machine.web_url, at_once=6)
    buyers.join()
    settle(seconds=120)
    print(f"F59: on {connection.vendor} {len(buyers.told)} orders, slowest answer {buyers.slowest(1):.2f} s")
    assert set(buyers.statuses()) == {201}
    assert not any(process.says("is locked") for process in machine.processes)
    assert all(worker.is_alive for worker in workers)
    assert broken(buyers) == []


@pytest.mark.fault("F60")
@pytest.mark.skipif(connection.vendor != "sqlite", reason="fills the disk under a database file")
def test_f60_a_full_disk_is_a_503_and_no_half_order(machine, tmp_path):
    """The tables are made on a small disk of their own, which takes the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "shop", str(disk)], check=False)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk; the drill is in docs/reference/faults.md")
    usual = dict(connection.settings_dict)
    ballast = disk / "ballast"
    try:
        with connection.cursor() as cursor:
            cursor.execute("VACUUM INTO %s", [str(disk / "shop.sqlite3")])
        connection.close()
        connection.settings_dict["NAME"] = str(disk / "shop.sqlite3")
        machine.environment["DATABASE_URL"] = database_url()
        web = machine.start_web()
        buyers = Buyers(40)
        buyers.place(machine.web_url, 5)
        fill(ballast)
        buyers.begin(machine.web_url, at_once=1)
        wait_until("somebody is told to come back", lambda: buyers.statuses()[503] >= 2)
        ballast.unlink()
        buyers.join()
        machine.start_relay()
        machine.start_worker()
        settle()
        print(f"F60: answers {dict(buyers.statuses())}")
        assert web.is_alive
        assert broken(buyers) == []
    finally:
        for process in machine.processes:
            process.kill()
        connection.close()
        connection.settings_dict.update(usual)
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.fault("F68")
@pytest.mark.slow_fault
def test_f68_a_column_that_the_next_release_adds_disturbs_no_process_of_this_one(machine):
    machine.start_web()
    machine.start_relay()
    machine.start_worker()
    buyers = Buyers(400)
    buyers.begin(machine.web_url, at_once=2)
    wait_until("orders are placed", lambda: len(buyers.told) >= 20)
    tables = ("store_order", "celery_ledger_durabletask")
    for table in tables:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} ADD COLUMN of_the_next_release integer DEFAULT 0 NOT NULL")
    try:
        before = len(buyers.told)
        wait_until("orders are still placed", lambda: len(buyers.told) >= before + 30)
        buyers.stop()
        settle(seconds=60)
        print(f"F68: answers {dict(buyers.statuses())}")
        assert set(buyers.statuses()) == {201}
        assert broken(buyers) == []
    finally:
        buyers.stop()
        for process in machine.processes:
            process.kill()
        for table in tables:
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE {table} DROP COLUMN of_the_next_release")


@pytest.mark.fault("F58")
@pytest.mark.slow_fault
@pytest.mark.timeout(900)
@pytest.mark.postgresql
def test_f58_a_backlog_of_a_hundred_thousand_waits_in_the_ledger_and_drains(machine):
    machine.start_web()
    relay = machine.start_relay()
    buyers, with_backlog = Buyers(200, seed=1), Buyers(200, seed=2)
    buyers.place(machine.web_url, 200)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO celery_ledger_durabletask (id, name, queue, args, kwargs, available_at)
            SELECT gen_random_uuid(), 'tests.make_collections', 'default',
                   jsonb_build_array('shelf ' || number), '{}', now()
            FROM generate_series(1, 100000) AS number
            """
        )
    with_backlog.place(machine.web_url, 200)
    memory = [resident(relay.pid)]
    machine.start_worker()
    machine.start_worker()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(1):
            memory.append(resident(relay.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    took = settle(seconds=600)
    stop.set()
    watcher.join()
    print(
        f"F58: 100,000 drained in {took:.0f} s; the relay's memory {memory[0]} to {max(memory)} MB; "
        f"p99 of the checkout {buyers.slowest() * 1000:.0f} ms, with the backlog {with_backlog.slowest() * 1000:.0f} ms"
    )
    assert max(memory) < memory[0] + 60
    assert with_backlog.slowest() < max(1.5 * buyers.slowest(), buyers.slowest() + 0.05)
    with_backlog.checkouts += buyers.checkouts
    assert broken(with_backlog) == []


def fill(file: Path) -> None:
    """Write to ``file`` until its disk is full."""
    with file.open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space left"):
        while True:
            ballast.write(bytes(4096))


def resident(pid: int) -> int:
    """Return the memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


@pytest.mark.fault("F40")
def test_f40_a_customer_who_is_deleted_leaves_no_task_that_runs_for_ever(machine):
    user = make_user()
    user.delete()  # The welcome is still to be sent.
    machine.start_relay()
    machine.start_worker()
    settle(seconds=30)
    task = DurableTask.objects.get(name="email_app.tasks.send_welcome")
    assert (task.status, task.attempts) == ("dead", 1)
    assert task.last_error.startswith("PermanentError")
    probe.make_collection.delay("and work goes on")
    wait_until("work goes on", lambda: not DurableTask.objects.exclude(status__in=["dead", "succeeded"]).exists())
    assert not all_succeeded()
