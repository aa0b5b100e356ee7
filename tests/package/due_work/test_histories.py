"""
Crash histories: the same work, interrupted after every commit, every call of a provider and in every receiver.

The worker is the consumer, in this process, so that the harness can have it die between any two statements. What it
leaves is recovered as in production: leases end, the relay's sweep brings rows back, a worker runs them.
"""

from conftest import numbers
from due_work_harness import (
    Adoption,
    CallableDelivery,
    Decline,
    DueWorkContract,
    ExternalCall,
    Findings,
    HandoffHistory,
    NotApplicable,
    Profile,
    SafetyContract,
    SafetyProfile,
    due_work_contract_suite,
)
from due_work_harness.integrations.task_queues import TaskOutcome
from proj import orders, provider, tasks
from proj.models import Effect

from celery_ledger import testing
from celery_ledger.models import DurableTask

#: The one gap that no queue can close: an effect outside, and a death before its record.
WINDOW = (
    "an effect outside the database and its record are two things: a worker that dies between them has it happen "
    "again. The ledger says so (at least once), and closes it only for effects in its own database"
)
TWICE = TaskOutcome(status="succeeded", effect=2)
ONCE = TaskOutcome(status="succeeded", effect=1)


def place(order: str) -> None:
    orders.place(order)


def outcome_of_order(order: str) -> tuple[int, int]:
    effects = Effect.objects
    return effects.filter(what=f"{order} placed").count(), effects.filter(what=f"{order} recorded").count()


def a_new_order() -> str:
    return f"order {next(numbers)}"


def outcome(id: str) -> TaskOutcome:
    row = DurableTask.objects.get(pk=id)
    effects = Effect.objects.filter(what=row.args[0]).count() + provider.sent(row.args[0])
    return TaskOutcome(status=row.status, effect=effects)


def after_another(enqueue):
    """Enqueue one when another has run: the first measurement of a task takes a statement more than the next."""
    enqueue()
    testing.drain()
    return enqueue()


def worker(name, enqueue, *, is_outside=False):
    """Return the history of a worker that runs one task."""
    return HandoffHistory(
        name=name,
        arrange=lambda: after_another(enqueue),
        transition=lambda _: testing.drain(),
        observe=outcome,
        external_calls=(ExternalCall(provider, "send"),) if is_outside else (),
        findings=Findings(ONCE, {"worker died after external call 1": TWICE} if is_outside else {}),
    )


PLACED = tuple(
    HandoffHistory(
        name=f"an order is placed with a task of {whose}",
        arrange=a_new_order,
        transition=transition,
        observe=outcome_of_order,
        findings=Findings((1, 1)),
    )
    for whose, transition in (("Celery's", orders.place), ("Django's", orders.place_djangos))
)
INSIDE = (
    worker("Celery's task, transactional", lambda: tasks.record.delay(f"effect {next(numbers)}").id),
    worker("Django's task, transactional", lambda: tasks.record_djangos.enqueue(f"effect {next(numbers)}").id),
)
OUTSIDE = (
    worker(
        "Celery's task, with an effect outside", lambda: tasks.notify.delay(f"mail {next(numbers)}").id, is_outside=True
    ),
    worker(
        "Django's task, with an effect outside",
        lambda: tasks.notify_djangos.enqueue(f"mail {next(numbers)}").id,
        is_outside=True,
    ),
)


def contract(name, histories, gaps):
    """Return the contract of these histories, with what the ledger says of each of the harness's profiles."""
    return DueWorkContract(
        name=name,
        adoption=Adoption.LEGACY if gaps else Adoption.NEW_FEATURE,
        transactional=True,
        profiles={
            Profile.A: Decline("the relay's sweep is bound by the histories: every one of them is recovered by it"),
            Profile.B: Decline("claims, leases and fences have races and kills of their own in the package's tests"),
            Profile.C: Decline("an attempt outside is counted before it starts; the histories show what that leaves"),
            Profile.D: Decline("nothing that is owed is pruned: shown by the package's own tests of the pruner"),
            Profile.E: NotApplicable("one attempt settles a row, by its fence"),
            Profile.F: NotApplicable("the obligation is the row itself, not a fact derived from product state"),
        },
        safety=SafetyContract(
            name=name,
            profiles={
                SafetyProfile.REPLAY_SAFE_EXECUTION: Decline(
                    "effects in the database happen once; of those outside it is the function's to be repeatable"
                ),
                SafetyProfile.BOUNDED_RETRY: Decline("retries are the task's own, and bounded by its max_retries"),
            },
        ),
        handoffs=histories,
        handoff_delivery=CallableDelivery(name=name, recover=testing.recover),
        handoff_gaps=gaps,
    )


@due_work_contract_suite(contract("work that is enqueued in a transaction", PLACED, {}))
class TestEnqueueing:
    pass


@due_work_contract_suite(contract("effects in the database", INSIDE, {}))
class TestEffectsInTheDatabase:
    pass


@due_work_contract_suite(contract("effects outside", OUTSIDE, {history.name: WINDOW for history in OUTSIDE}))
class TestEffectsOutside:
    pass
