"""Pauses, rates and concurrency limits hold across several relays and workers."""

import subprocess
import sys
import time
from datetime import timedelta

import pytest

from celery_ledger.desk import queues
from celery_ledger.models import DurableTask
from celery_ledger.rows.outbox import collecting
from tests import probe
from tests.processes import ROOT, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.once]
Status = DurableTask.Status
SLOWED = "tests.make_collection"


@pytest.fixture
def start_cluster(machine):
    """Start two relays and four workers, which find the queues as they are by then."""

    def start():
        for _ in range(2):
            machine.start_relay()
        for _ in range(4):
            machine.start_worker(concurrency=1)

    return start


def started():
    return (
        DurableTask.objects.exclude(published_at=None).order_by("published_at").values_list("published_at", flat=True)
    )


def is_done():
    return not DurableTask.objects.exclude(status=Status.SUCCEEDED).exists()


def test_a_rate_holds_across_relays(start_cluster):
    """
    However busy the machine is: a rate is a bound, so being slow does not break it, and relays that took
    no notice of it, or of each other, would have begun far more within some second.
    """
    queues.limit("default", per_second=20, concurrency=None)
    for number in range(120):
        probe.make_collection.delay(f"shelf {number}")
    start_cluster()
    wait_until("all are done", is_done, seconds=90)

    times = list(started())
    assert len(times) == 120
    within = [sum(begin <= at < begin + timedelta(seconds=1) for at in times) for begin in times]
    took = times[-1] - times[0]
    print(f"120 tasks at 20 a second took {took.total_seconds():.1f} s, at most {max(within)} began within a second")
    # And what a pause lets go at once, twice: a claim that was allowed may be carried out late. Two relays that
    # counted each by itself would have begun 40.
    assert max(within) <= 20 + 2 * 4 + 1
    assert took > timedelta(seconds=120 / 20 - 2)


def test_what_is_under_way_at_once_is_bounded_across_relays(start_cluster):
    queues.limit("default", per_second=None, concurrency=3)
    start_cluster()
    for number in range(24):
        probe.make_slowly.delay(f"shelf {number}", 0.2)
    most = 0
    deadline = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < deadline
        under_way = DurableTask.objects.filter(status=Status.PUBLISHED).count()
        most = max(most, under_way)
    assert most == 3


def test_a_paused_queue_rests_on_every_relay_and_goes_on_when_resumed(start_cluster):
    queues.pause("default")
    start_cluster()
    for number in range(40):
        probe.make_collection.delay(f"shelf {number}")
    others = [probe.make_collection.apply_async((f"other {number}",), queue="email").id for number in range(20)]
    wait_until(
        "other queues go on", lambda: not DurableTask.objects.filter(id__in=others).exclude(status=Status.SUCCEEDED)
    )
    assert DurableTask.objects.filter(status=Status.PENDING, queue="default").count() == 40
    queues.resume("default")
    took = wait_until("all are done", is_done, seconds=30)
    print(f"40 tasks were done {took:.1f} s after the queue was resumed")


@pytest.mark.fault("F73")
def test_f73_a_rate_that_somebody_sets_for_a_task_holds_no_worker_back(machine):
    machine.start_relay()
    machine.start_worker(concurrency=1)
    told = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker", "control", "--timeout", "30", "rate_limit", SLOWED, "1/m"],
        cwd=ROOT,
        env=machine.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "new rate limit set successfully" in told.stdout, told.stdout + told.stderr
    for number in range(5):
        probe.make_collection.delay(f"shelf {number}")
        probe.name_process.delay(number)
    others = DurableTask.objects.exclude(name=SLOWED)
    wait_until("all others are done", lambda: not others.exclude(status=Status.SUCCEEDED).exists(), seconds=20)
    assert DurableTask.objects.filter(name=SLOWED, status=Status.PENDING).count() >= 4


def test_a_command_whose_reader_has_gone_ends_quietly(machine):
    """As in ``outbox tasks | head -1``, where more is left to say than a pipe holds."""
    with collecting():
        for number in range(500):
            probe.make_collection.delay(f"shelf {number} {'x' * 200}")
    command = f"set -o pipefail; {sys.executable} manage.py outbox tasks --limit 0 --json | head -c 1"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=machine.environment, capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("{", "", 141)
