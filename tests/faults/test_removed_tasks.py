"""Tasks that the code no longer has, and workers that lose a child as they start: the others go on."""

import os
import signal

import pytest
from django.db.models import Sum

from celery_ledger.models import DurableTask, Tally
from store.models import Collection
from tests.faults.test_lost_processes import enqueue
from tests.processes import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.once]
REMOVED = 3_000


@pytest.mark.fault("F82")
def test_f82_three_thousand_of_a_removed_task_hold_up_nobody(machine):
    DurableTask.objects.bulk_create(
        DurableTask(name="tests.removed", queue="default", args=[number]) for number in range(REMOVED)
    )
    machine.start_relay()
    worker = machine.start_worker(concurrency=1)
    enqueue(20)
    took = wait_until("the others are done", lambda: Collection.objects.count() == 20, seconds=30)
    left = DurableTask.objects.filter(name="tests.removed", unknown_since__isnull=False)
    wait_until("all were left", lambda: left.count() == REMOVED, seconds=60)
    published = Tally.objects.filter(name="tests.removed", outcome=Tally.Outcome.PUBLISHED)
    messages = published.aggregate(sum=Sum("messages"))["sum"]
    print(f"F82: the others were done after {took:.1f} s, in {messages} messages {REMOVED} were left")
    assert messages < REMOVED / 2
    assert worker.is_alive


@pytest.mark.fault("F83")
def test_f83_a_child_that_is_killed_while_its_worker_starts_does_not_end_the_worker(machine):
    machine.start_relay()
    worker = machine.start_worker(concurrency=2, wait=False)
    # Of two at once: what a worker runs for a moment, as it starts, is alone.
    wait_until("it has children", lambda: len(worker.children()) == 2)
    os.kill(worker.children()[0], signal.SIGKILL)
    enqueue(5)
    wait_until("work is done", lambda: Collection.objects.count() == 5, seconds=60)
    assert worker.is_alive
