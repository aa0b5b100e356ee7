"""A Redis that stops, stalls, fills up, loses replies or duplicates messages: orders continue, and every task runs."""

import random
import signal
import time

import pytest
import redis
from django.db.models import Sum

from celery_ledger.models import DurableTask, Tally
from celery_ledger.rows.outbox import collecting
from store.models import Collection
from tests import probe
from tests.faults.buyers import Buyers
from tests.faults.invariants import broken, settle
from tests.faults.test_lost_processes import all_succeeded, enqueue
from tests.processes import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.once]


@pytest.fixture
def client(machine):
    """The machine's Redis, as an operator reaches it."""
    if machine.uses_rabbitmq:
        pytest.skip("It breaks a Redis.")
    return redis.Redis(port=machine.redis_port)


def effects() -> int:
    return Collection.objects.count()


def all_done_though_the_worker_may_end(machine, worker):
    """Wait for all tasks, starting another worker if this one ends; whether it lived, and the seconds that took."""
    took = wait_until("all are done, or it has ended", lambda: all_succeeded() or not worker.is_alive)
    if worker.is_alive:
        return True, took
    machine.start_worker(concurrency=2)  # As run.py's supervisor does.
    return False, took + wait_until("all are done", all_succeeded)


@pytest.mark.fault("F11")
def test_f11_a_message_that_vanished_with_a_frozen_worker_is_published_again(machine, client):
    machine.start_relay()
    worker = machine.start_worker(concurrency=1)
    vanished = next(filter(None, (lose_a_message(worker, client) for _ in range(20))), None)
    assert vanished, "the worker was awake each time"
    worker.kill()
    done_before = effects()
    machine.start_worker(concurrency=1)
    took = wait_until("it is done", all_succeeded, seconds=20)
    print(f"F11: done {took:.1f} s after another worker was ready")
    assert effects() == done_before + 1
    assert DurableTask.objects.get(id=vanished).lapses == 1


def lose_a_message(worker, client):
    """
    Stop a worker while it waits for a message, so that the next one goes into its socket; return its task.

    None, and the worker goes on: its wait, of a second, had just ended, and the message stayed at the broker.
    """
    wait_until("it waits in BRPOP", lambda: client.info("clients")["blocked_clients"] == 1)
    worker.kill(signal.SIGSTOP)
    before = told_to_the_broker()
    handle = probe.make_collection.delay("garden")
    wait_until("it is with the broker", lambda: told_to_the_broker() > before)
    if client.llen("shopwire:default") == 0:
        return handle.id
    worker.kill(signal.SIGCONT)
    wait_until("it is done", all_succeeded)
    return None


@pytest.mark.fault("F15")
def test_f15_a_worker_frozen_for_longer_than_its_lease_does_nothing_twice(machine):
    machine.start_relay()
    frozen = machine.start_worker(concurrency=1, LEDGER_RUNNING_LEASE="2")
    probe.ring_slowly.delay("door", 1)
    wait_until("it runs", lambda: DurableTask.objects.filter(status="running").exists())
    frozen.kill(signal.SIGSTOP)
    other = machine.start_worker(concurrency=1, LEDGER_RUNNING_LEASE="2")
    wait_until("another did it", all_succeeded, seconds=40)
    frozen.kill(signal.SIGCONT)
    wait_until("the first is fenced off", lambda: frozen.says("taken over meanwhile"))
    task = DurableTask.objects.get()
    print(f"F15: attempts {task.attempts}, effects outside {effects()}")
    assert (task.status, task.attempts) == ("succeeded", 2)
    assert other.is_alive
    assert frozen.is_alive


@pytest.mark.fault("F16")
def test_f16_thirty_that_are_due_later_run_once_and_not_early(machine):
    machine.start_relay()
    machine.start_worker()
    for number in range(30):
        probe.make_collection.apply_async([f"shelf {number}"], countdown=4)
    time.sleep(1)
    assert published() == 0
    wait_until("all are done", all_succeeded, seconds=30)
    assert effects() == 30
    early = [task for task in DurableTask.objects.all() if task.completed_at < task.available_at]
    assert early == []


@pytest.mark.fault("F17")
def test_f17_idle_workers_resume_after_redis_was_killed(machine, client):
    machine.start_relay()
    worker = machine.start_worker()
    probe.make_collection.delay("before")
    wait_until("it is done", all_succeeded)
    machine.stop_broker()
    machine.start_broker()
    enqueue(20)
    took = wait_until("all are done", all_succeeded, seconds=30)
    print(f"F17: done {took:.1f} s after Redis was back; the worker {'lived' if worker.is_alive else 'ended'}")
    assert took < 20
    assert worker.is_alive
    assert effects() == 21


@pytest.mark.fault("F18")
def test_f18_redis_killed_while_tasks_run_leaves_one_effect_each(machine, client):
    machine.start_relay()
    worker = machine.start_worker(concurrency=2)
    for number in range(4):
        probe.make_slowly.delay(f"shelf {number}", 2)
    wait_until("they run", lambda: worker.log.read_text().count("is under way") >= 2)
    machine.stop_broker()
    machine.start_broker()
    lived, took = all_done_though_the_worker_may_end(machine, worker)
    print(f"F18: the worker {'lived' if lived else 'was restarted'}, all done {took:.1f} s after Redis was back")
    assert effects() == 4


@pytest.mark.fault("F20")
@pytest.mark.slow_fault
def test_f20_orders_are_as_fast_while_redis_is_frozen(machine, client):
    machine.start_web()
    machine.start_relay()
    machine.start_worker()
    buyers, frozen = Buyers(120, seed=1), Buyers(120, seed=2)
    buyers.place(machine.web_url, 120)
    settle(seconds=60)
    machine.broker.kill(signal.SIGSTOP)
    frozen.place(machine.web_url, 120)
    assert DurableTask.objects.filter(status="pending").exists()
    machine.broker.kill(signal.SIGCONT)
    settle(seconds=90)
    usual, now = buyers.slowest(), frozen.slowest()
    print(f"F20: p99 of the checkout {usual * 1000:.0f} ms, with Redis frozen {now * 1000:.0f} ms")
    assert now < max(1.2 * usual, usual + 0.5)  # A call to the broker would take seconds.
    frozen.checkouts += buyers.checkouts
    assert broken(frozen) == []


@pytest.mark.fault("F21")
def test_f21_a_publish_whose_answer_is_lost_is_repeated_and_has_one_effect(machine, broker_proxy):
    relay = machine.start_relay()
    machine.environment["REDIS_URL"] = f"redis://127.0.0.1:{machine.redis_port}/0"
    machine.start_worker(concurrency=1)
    probe.make_collection.delay("warm up")
    wait_until("it is done", all_succeeded)
    broker_proxy.drop_answer_to(b"LPUSH")
    handle = probe.make_collection.delay("garden")
    wait_until("the relay noticed", lambda: relay.says("The broker is unavailable or refuses"))
    wait_until("it is done", all_succeeded)
    wait_until("the relay is content", lambda: relay.says("The broker is back") or all_succeeded())
    assert broker_proxy.dropped == 1
    assert effects() == 2
    assert DurableTask.objects.get(pk=handle.id).attempts == 1


@pytest.mark.fault("F22")
def test_f22_a_full_redis_slows_everything_and_loses_nothing(machine, client):
    machine.start_web()
    relay = machine.start_relay()
    worker = machine.start_worker()
    buyers = Buyers(60)
    buyers.place(machine.web_url, 5)
    settle()
    client.config_set("maxmemory", client.info("memory")["used_memory"] - 1)
    buyers.place(machine.web_url, 55)
    wait_until("the relay holds back", lambda: relay.says("The broker is unavailable or refuses"))
    assert relay.says("used memory > 'maxmemory'")
    assert DurableTask.objects.filter(status="pending").exists()
    client.config_set("maxmemory", 0)
    if not worker.is_alive:
        machine.start_worker()  # As run.py's supervisor does.
    took = settle(seconds=90)
    print(f"F22: settled {took:.1f} s after there was room; the worker {'lived' if worker.is_alive else 'ended'}")
    assert relay.is_alive
    assert buyers.slowest(1) < 8
    assert broken(buyers) == []


@pytest.mark.fault("F25")
def test_f25_connections_cut_under_running_tasks_leave_one_effect_each(machine, client):
    machine.start_relay()
    worker = machine.start_worker(concurrency=2)
    for number in range(4):
        probe.make_slowly.delay(f"shelf {number}", 2)
    wait_until("they run", lambda: worker.log.read_text().count("is under way") >= 2)
    assert client.client_kill_filter(_type="normal", skipme=True) > 0
    wait_until("the worker noticed", lambda: worker.says("onnection"))
    lived, took = all_done_though_the_worker_may_end(machine, worker)
    print(f"F25: the worker {'lived' if lived else 'was restarted'}, all done {took:.1f} s after the cut")
    assert effects() == 4


@pytest.mark.fault("F42", "F43")
def test_f42_f43_messages_doubled_and_shuffled_have_no_further_effect(machine, client):
    seed = random.randrange(10_000)
    machine.start_relay()
    with collecting():
        for number in range(150):
            probe.make_anew.delay(f"shelf {number}")
    wait_until("messages wait", lambda: client.llen("shopwire:default") >= 10)
    messages = client.lrange("shopwire:default", 0, -1) * 2
    random.Random(seed).shuffle(messages)
    client.delete("shopwire:default")
    client.rpush("shopwire:default", *messages)
    machine.start_worker()
    machine.start_worker()
    wait_until("all are done", all_succeeded, seconds=60)
    wait_until("all messages are taken", lambda: client.llen("shopwire:default") == 0)
    print(f"F42, F43: seed {seed}, {len(messages)} messages, each there twice")
    assert effects() == 150
    assert set(DurableTask.objects.values_list("attempts", flat=True)) == {1}


@pytest.mark.fault("F49")
@pytest.mark.parametrize("hours", [1, -1])
def test_f49_a_worker_whose_clock_is_wrong_does_nothing_early_or_twice(machine, hours):
    machine.start_relay(CLOCK_OFF_BY=str(hours * 3600))
    wrong = machine.start_worker(concurrency=1, CLOCK_OFF_BY=str(hours * 3600))
    machine.start_worker(concurrency=1)
    enqueue(10)
    for number in range(10):
        probe.ring_slowly.delay(f"door {number}", 0.2)
    probe.make_collection.apply_async(["later"], countdown=5)
    probe.come_back.apply_async([2.0])
    wait_until("all but one are done", lambda: effects() >= 21, seconds=60)
    assert effects() == 21
    later = DurableTask.objects.get(args=["later"])
    assert later.completed_at >= later.available_at
    assert set(DurableTask.objects.exclude(name="tests.come_back").values_list("attempts", flat=True)) == {1}
    again = DurableTask.objects.get(name="tests.come_back")
    assert again.attempts < 8, "its retries came at once"
    year = time.gmtime(time.time() + hours * 3600)
    assert wrong.says(time.strftime("%Y-%m-%d %H:", year)), "its clock was right"


def published() -> int:
    return DurableTask.objects.filter(status="published").count()


def told_to_the_broker() -> int:
    """Return how many tasks the relay has counted as published, which it does when the broker has them."""
    told = Tally.objects.filter(outcome=Tally.Outcome.PUBLISHED, name=probe.make_collection.name)
    return told.aggregate(rows=Sum("rows", default=0))["rows"]
