"""
What a person decides about any number of dead tasks: a row that says what and how far it is, carried out in portions.

Each portion is one transaction that moves the row on as well, so that whoever goes on after a crash decides about
nothing twice, and anybody can see how far it is.
"""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from celery import shared_task
from django.db import transaction
from django.db.models import F, Max
from django.db.models.functions import Now

from celery_ledger import clock
from celery_ledger.context import current_actor
from celery_ledger.desk import dead_letters
from celery_ledger.desk.dead_letters import PORTION, Selection
from celery_ledger.models import Decision
from celery_ledger.retries import BRISK
from celery_ledger.task import Task

What = Decision.What
#: So many are decided about while somebody waits for the answer.
AT_ONCE = 10_000
#: How long one run of the task works before it makes room for others and is enqueued again, in seconds.
TURN = 10.0
#: How long decisions are kept.
KEPT = timedelta(days=30)


def decide(
    what: Decision.What, selection: Selection, *, reason: str = "", per_second: float | None = None
) -> tuple[int, Decision | None]:
    """
    Replay or discard what ``selection`` names: at once if it is few, else by a worker.

    Returns how many tasks it was, or will be, and the decision that says how far the worker is.

    Raises:
        ValueError: as of :func:`begin`.
    """
    ids = list(selection.tasks().values_list("id", flat=True)[: AT_ONCE + 1])
    if len(ids) > AT_ONCE:
        decision = begin(what, selection, reason=reason, per_second=per_second)
        return decision.wanted, decision
    if what == What.DISCARD:
        return dead_letters.discard(ids, reason=reason), None
    return dead_letters.replay(ids, per_second=per_second), None


def begin(what: Decision.What, selection: Selection, *, reason: str = "", per_second: float | None = None) -> Decision:
    """
    Have a worker replay or discard whatever ``selection`` names now, in portions; return the row that says how far.

    What dies, or dies again, after this is not meant.

    Raises:
        ValueError: there is no reason to discard, or the rate is out of bounds.
    """
    with transaction.atomic():
        decision = write_down(what, selection, reason=reason, per_second=per_second)
        carry_out.delay(decision.pk)
    return decision


def write_down(
    what: Decision.What, selection: Selection, *, reason: str = "", per_second: float | None = None
) -> Decision:
    """
    Write down a decision for the caller to carry out; see :func:`steps`.

    Raises:
        ValueError: as of :func:`begin`.
    """
    if what == What.DISCARD:
        reason = dead_letters.check_reason(reason)
    dead_letters.check_rate(per_second)
    Decision.objects.filter(begun_at__lt=Now() - KEPT).delete()
    tasks = selection.tasks()
    decision = Decision.objects.create(
        what=what,
        selection=selection.as_json(),
        reason=reason,
        per_second=per_second,
        who=current_actor(),
        wanted=tasks.count(),
        until=tasks.order_by().aggregate(last=Max("completed_at"))["last"],
    )
    decision.refresh_from_db()
    return decision


def steps(decision: Decision) -> Iterator[int]:
    """Carry out ``decision`` portion by portion; yield after each how many tasks were decided about so far."""
    reached: datetime | None = None
    while True:
        is_left, reached = _step(decision, reached)
        if not is_left:
            return
        yield decision.done


def _step(decision: Decision, reached: datetime | None) -> tuple[bool, datetime | None]:
    """
    Decide about the next portion, in one transaction: whether there was one, and up to which time of death.

    What died before the time ``reached`` is decided about already, and is not walked over again.
    """
    with transaction.atomic():
        # Whoever else carries it out waits, and then sees what was done.
        decision.refresh_from_db(from_queryset=Decision.objects.select_for_update())
        if decision.ended_at is not None:
            return False, None
        tasks = Selection(**decision.selection).tasks_as_sorted().order_by("completed_at")
        dated = tasks.filter(completed_at__lte=decision.until) if decision.until else tasks.none()
        if reached is not None:
            dated = dated.filter(completed_at__gte=reached)
        portion = list(dated.values_list("id", "completed_at")[:PORTION])
        reached = portion[-1][1] if portion else reached
        ids = [id for id, _ in portion] or list(
            tasks.filter(completed_at=None).order_by("id").values_list("id", flat=True)[:PORTION]
        )
        if not ids:
            Decision.objects.filter(pk=decision.pk).update(ended_at=Now())
            decision.refresh_from_db()
            return False, None
        if decision.what == What.DISCARD:
            done = dead_letters.discard_portion(ids, reason=decision.reason, who=decision.who)
        else:
            pause = dead_letters.pause_of(decision.per_second)
            behind = (clock.now() - decision.begun_at).total_seconds() if pause else 0.0
            start = max(0.0, decision.done * pause - behind)
            done = dead_letters.replay_portion(ids, pause=pause, start=start, who=decision.who)
        Decision.objects.filter(pk=decision.pk).update(done=F("done") + done, moved_at=Now())
        decision.done += done
    return True, reached


@shared_task(name="celery_ledger.tasks.carry_out", base=Task, retries=BRISK)
def carry_out(decision_id: int) -> dict[str, Any]:
    """Carry out a decision for a while and, if more is left, have it carried on. Repeatable: nothing is done twice."""
    decision = Decision.objects.filter(pk=decision_id).first()
    if decision is None:
        return {"ended": True}
    end = time.monotonic() + TURN
    for _ in steps(decision):
        if time.monotonic() > end:
            carry_out.delay(decision_id)
            break
    return {"done": decision.done, "of": decision.wanted, "ended": decision.ended_at is not None}


def recent(number: int = 10) -> list[Decision]:
    """Return the latest decisions, newest first."""
    return list(Decision.objects.order_by("-pk")[:number])
