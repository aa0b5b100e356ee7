"""
Process histories: the real worker in a process of its own, which dies at Celery's stages and is started again.

Once with the ledger, once as plain Celery has it. The faults are the harness's; those that only canvas meets are left
out. ``mark_as_done`` is a call of Celery's tracer, which rows do not pass: there the ledger's own crash points are.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conftest import numbers
from django.db import connections
from due_work_harness import Findings, due_work_contract_suite
from due_work_harness.integrations.celery_worker import worker_contract, worker_history
from proj import plain, provider, tasks
from proj.models import Effect

LOG = Path(os.environ["HARNESS_LOG"])
HOOK = "the task's on_success hook raised"
READY = {"SUCCESS", "FAILURE", "REVOKED"}


def observe(handle):
    what, result, _ = handle
    return result.state, Effect.objects.filter(what=what).count() + provider.sent(what)


def settled(handle):
    """Say whether a run is over: its task has ended, or its worker was lost, and the next one is to find it."""
    _, result, lost = handle
    state = result.state
    if state == "RETRY" and not lost:
        lost.append(state)
        return True
    return state in READY


def settled_at_the_broker(handle):
    """Say the same of plain Celery, whose broker may still have a message that is to be run again."""
    with plain.app.connection_for_read() as connection:
        broker = connection.default_channel.client
        return settled(handle) and not broker.llen(plain.app.conf.task_default_queue) and not broker.hlen("unacked")


def sender(task):
    """Return what calls a task around the transaction that the test is in, which never commits."""

    def call(what):
        try:
            return what, task.delay(what), []
        finally:
            connections.close_all()

    def send():
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(call, f"{task.name} {next(numbers)}").result()

    return send


def ledgers(name, task, findings=None):
    return worker_history(
        name=name,
        app="proj.worker:app",
        task=task.name,
        send=sender(task),
        observe=observe,
        initial=("PENDING", 0),
        settled=settled,
        death_points=("task_prerun", "task_postrun"),
        failure_points=(HOOK,),
        quiet=0.1,
        timeout=120,
        log=LOG,
        findings=findings or Findings(("SUCCESS", 1)),
    )


def plains(name, task, findings):
    return worker_history(
        name=name,
        app="proj.plain:app",
        task=task.name,
        send=sender(task),
        observe=observe,
        initial=("PENDING", 0),
        settled=settled_at_the_broker,
        failure_points=(HOOK,),
        quiet=0.5,
        timeout=120,
        log=LOG,
        findings=findings,
    )


INSIDE = ledgers("a transactional task", tasks.record)
OUTSIDE = ledgers("a task with an effect outside", tasks.notify)
PLAIN = plains(
    "a task of plain Celery",
    plain.record,
    Findings(("SUCCESS", 1), {"died at task_prerun": ("FAILURE", 0), "died at mark_as_done": ("FAILURE", 1)}),
)
LATE = plains(
    "a task of plain Celery, acknowledged late",
    plain.record_late,
    Findings(("SUCCESS", 1), {"died at mark_as_done": ("SUCCESS", 2), "died at task_postrun": ("SUCCESS", 2)}),
)


@due_work_contract_suite(worker_contract(name="the ledger, in the database", history=INSIDE, fixtures=("relay",)))
class TestInTheDatabase:
    pass


@due_work_contract_suite(worker_contract(name="the ledger, outside", history=OUTSIDE, fixtures=("relay",)))
class TestOutside:
    pass


@due_work_contract_suite(worker_contract(name="plain Celery", history=PLAIN, gap="a killed worker loses its task"))
class TestPlain:
    pass


@due_work_contract_suite(
    worker_contract(name="plain Celery, late", history=LATE, gap="a worker killed after the effect has it happen twice")
)
class TestPlainLate:
    pass
