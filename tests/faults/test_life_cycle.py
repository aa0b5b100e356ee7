"""A release replaces another under load without one error; a worker's process that has grown is replaced."""

import json
import signal
import threading
import time

import pytest
from django_celery_results.models import TaskResult

from celery_ledger.models import DurableTask, Heartbeat
from tests import probe
from tests.faults.buyers import Buyers
from tests.faults.invariants import broken, settle
from tests.faulty_proxy import FaultyProxy
from tests.processes import free_port, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]


@pytest.fixture
def proxy():
    """The proxy before the web processes, as a deploy needs one."""
    server = FaultyProxy("http://127.0.0.1:1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.postgresql
@pytest.mark.slow_fault
def test_the_deploy_recipe_shows_customers_no_error_under_thirty_orders_a_second(machine, proxy):
    old = [machine.start_web(), machine.start_relay(), machine.start_worker()]
    proxy.upstream = f"127.0.0.1:{machine.web_port}"
    buyers = Buyers(8_000)  # At 45 a second at the most, for a deploy of three minutes.
    buyers.begin(proxy.url, at_once=9, pause=0.2)
    wait_until("orders are placed", lambda: len(buyers.told) >= 30)
    began, before = time.monotonic(), len(buyers.told)

    assert machine.run_command("migrate").returncode == 0
    machine.start_worker()
    machine.start_relay()
    machine.start_web(free_port())
    proxy.upstream = f"127.0.0.1:{machine.web_port}"
    web, relay, worker = old
    exits = [process.stop(seconds=60) for process in (web, relay, worker)]

    during, seconds = len(buyers.told) - before, time.monotonic() - began
    wait_until("the new ones take orders", lambda: len(buyers.told) >= before + during + 60)
    buyers.stop()
    settle(seconds=90)
    statuses = buyers.statuses()
    print(f"{during} orders in the {seconds:.0f} s of the deploy, {during / seconds:.0f} a second; {dict(statuses)}")
    assert exits == [-signal.SIGTERM, 0, 0]
    assert set(statuses) == {201}
    assert during > 100
    assert broken(buyers) == []
    wait_until("the old ones are not missed", lambda: Heartbeat.objects.count() == 2)


def test_a_process_that_has_grown_is_replaced_after_its_task(machine):
    machine.start_relay()
    worker = machine.start_worker(concurrency=1, WORKER_MEMORY_MB="150")
    (before,) = worker.children()
    grown = probe.hoard.delay(200)
    wait_until("it has grown", lambda: TaskResult.objects.filter(task_id=grown.id, status="SUCCESS").exists())
    wait_until("another process is there", lambda: worker.children() and before not in worker.children())
    after = probe.name_process.delay(1)
    wait_until("it works", lambda: TaskResult.objects.filter(task_id=after.id, status="SUCCESS").exists())
    assert json.loads(TaskResult.objects.get(task_id=after.id).result) in worker.children()


def test_a_process_is_replaced_after_as_many_messages_as_the_project_says(machine):
    machine.start_relay()
    machine.start_worker("--max-tasks-per-child=1", concurrency=1)
    places = []
    for number in range(3):
        call = probe.name_process.delay(number)
        wait_until("it is done", lambda call=call: call.ready())
        places.append(call.get())
    assert len(set(places)) == 3
    assert set(DurableTask.objects.values_list("attempts", "lapses")) == {(1, 0)}
