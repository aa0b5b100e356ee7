"""
An operator's decision about any number of tasks: a row that records it and its progress, carried out in portions.

Dead tasks are replayed or discarded; waiting tasks are cancelled or run now.

Each portion is one transaction that updates the row too. A process that continues after a crash therefore decides
nothing twice, and everybody can see the progress.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from celery import shared_task
from django.db.models import F, Max, Q, QuerySet
from django.db.models.functions import Now

from celery_ledger import clock
from celery_ledger.context import current_actor
from celery_ledger.databases import atomic
from celery_ledger.desk import cancelling, dead_letters, hastening, searching
from celery_ledger.desk.dead_letters import PORTION, Selection
from celery_ledger.desk.searching import Count, Search, State
from celery_ledger.models import Decision, DurableTask
from celery_ledger.retries import BRISK
from celery_ledger.task import Task

What = Decision.What
#: Up to this many tasks are handled within the request; a worker handles more.
AT_ONCE = 10_000
#: How long one run of the task works before it makes room for others and is enqueued again, in seconds.
TURN = 10.0
OF_DEAD = (What.REPLAY, What.DISCARD)
#: What can be cancelled without killing a process, in the terms of the indexes.
WAITING = Q(status=DurableTask.Status.PENDING) | Q(status=DurableTask.Status.PUBLISHED, lease_until__isnull=False)
LATER = {State.RETRYING, State.SCHEDULED, State.LATER}
OPEN = LATER | {State.OPEN, State.PENDING, State.PUBLISHED}
#: How long decisions are kept.
KEPT = timedelta(days=30)


def preview(what: Decision.What, search: Search) -> Count:
    """Return how many tasks a decision would affect now."""
    narrowed = _narrowed(what, search)
    return Count(0) if narrowed is None else searching.count(narrowed)


def applying(what: Decision.What, ids: list[UUID]) -> int:
    """Return how many of these tasks a decision can affect now."""
    return _meant(what, Search()).filter(id__in=ids).count()


def decide(
    what: Decision.What, selection: Selection | Search, *, reason: str = "", per_second: float | None = None
) -> tuple[int, Decision | None]:
    """
    Carry out a decision on ``selection``: at once if it is small, otherwise by a worker.

    Returns how many tasks are affected, and the decision that records the worker's progress, if a worker does it.

    Raises:
        ValueError: as for :func:`begin`.
    """
    ids = list(_meant(what, selection).values_list("id", flat=True)[: AT_ONCE + 1])
    if len(ids) > AT_ONCE:
        decision = begin(what, selection, reason=reason, per_second=per_second)
        return decision.wanted, decision
    return decide_on(what, ids, reason=reason, per_second=per_second), None


def decide_on(what: Decision.What, ids: list[UUID], *, reason: str = "", per_second: float | None = None) -> int:
    """
    Carry out a decision on the tasks with these ids at once; return how many were affected.

    Raises:
        ValueError: as for :func:`begin`.
    """
    _check(what, reason, per_second)
    if what == What.DISCARD:
        return dead_letters.discard(ids, reason=reason)
    if what == What.CANCEL:
        return cancelling.cancel(ids, reason=reason)
    if what == What.RUN_NOW:
        return hastening.run_now(ids, reason=reason, per_second=per_second)
    return dead_letters.replay(ids, per_second=per_second)


def begin(
    what: Decision.What, selection: Selection | Search, *, reason: str = "", per_second: float | None = None
) -> Decision:
    """
    Let a worker carry out a decision on ``selection`` in portions; return the row with its progress.

    Tasks that die, die again, or are enqueued after this are not affected.

    Raises:
        ValueError: the reason to discard or cancel is empty, or the rate is out of bounds.
    """
    with atomic():
        decision = write_down(what, selection, reason=reason, per_second=per_second)
        carry_out.delay(decision.pk)
    return decision


def write_down(
    what: Decision.What, selection: Selection | Search, *, reason: str = "", per_second: float | None = None
) -> Decision:
    """
    Record a decision for the caller to carry out; see :func:`steps`.

    Raises:
        ValueError: as for :func:`begin`.
    """
    _check(what, reason, per_second)
    Decision.objects.filter(begun_at__lt=Now() - KEPT).delete()
    tasks = _meant(what, selection)
    is_of_dead = what in OF_DEAD
    decision: Decision = Decision.objects.create(
        what=what,
        selection=selection.as_json(),
        reason=reason.strip(),
        per_second=per_second,
        who=current_actor(),
        wanted=tasks.count(),
        until=tasks.order_by().aggregate(last=Max("completed_at"))["last"] if is_of_dead else clock.now(),
    )
    decision.refresh_from_db()
    return decision


def _check(what: Decision.What, reason: str, per_second: float | None) -> None:
    if what == What.DISCARD:
        dead_letters.check_reason(reason)
    if what == What.CANCEL:
        cancelling.check_reason(reason)
    dead_letters.check_rate(per_second)


def _narrowed(what: Decision.What, search: Search) -> Search | None:
    """Return ``search`` narrowed to tasks that this decision can affect; None: there are none."""
    if what in OF_DEAD:
        states, widest = {State.DEAD}, State.DEAD
    elif what == What.CANCEL:
        states, widest = OPEN, State.OPEN
    else:
        states, widest = LATER, State.LATER
        if search.state in {State.OPEN, State.PENDING}:
            return replace(search, state=widest)
    state = widest if search.state is None else State(search.state) if search.state in states else None
    return None if state is None else replace(search, state=state)


def _meant(what: Decision.What, selection: Selection | Search) -> QuerySet[DurableTask]:
    """Return the tasks of ``selection`` that this decision can affect."""
    if isinstance(selection, Selection):
        return selection.tasks()
    narrowed = _narrowed(what, selection)
    if narrowed is None:
        return DurableTask.objects.none()
    if what in OF_DEAD:
        return narrowed.tasks().order_by("completed_at", "id")
    return narrowed.tasks().filter(WAITING if what == What.CANCEL else hastening.LATER).order_by("id")


def steps(decision: Decision) -> Iterator[int]:
    """Carry out ``decision`` portion by portion; yield the number of tasks affected so far after each."""
    reached: datetime | None = None
    while True:
        is_left, reached = _step(decision, reached)
        if not is_left:
            return
        yield decision.done


def _step(decision: Decision, reached: datetime | None) -> tuple[bool, datetime | None]:
    """
    Carry out the next portion in one transaction; return whether there was one, and up to which time of death.

    Tasks that died before the time ``reached`` have been handled already, and are not visited again.
    """
    with atomic():
        # Another process that carries out the same decision waits here, and then sees what was done.
        decision.refresh_from_db(from_queryset=Decision.objects.select_for_update())
        if decision.ended_at is not None:
            return False, None
        if decision.what in OF_DEAD:
            ids, reached = _next_dead(decision, reached)
        else:
            ids = _next_waiting(decision)
        if not ids:
            Decision.objects.filter(pk=decision.pk).update(ended_at=Now())
            decision.refresh_from_db()
            return False, None
        done = _decide_on_portion(decision, ids)
        decision.reached = None if decision.what in OF_DEAD else ids[-1]
        Decision.objects.filter(pk=decision.pk).update(done=F("done") + done, moved_at=Now(), reached=decision.reached)
        decision.done += done
    return True, reached


def _next_dead(decision: Decision, reached: datetime | None) -> tuple[list[UUID], datetime | None]:
    if "state" in decision.selection:
        tasks = _meant(What(decision.what), searching.search_of(decision.selection)).order_by("completed_at")
    else:
        tasks = Selection(**decision.selection).tasks_as_sorted().order_by("completed_at")
    dated = tasks.filter(completed_at__lte=decision.until) if decision.until else tasks.none()
    if reached is not None:
        dated = dated.filter(completed_at__gte=reached)
    portion = list(dated.values_list("id", "completed_at")[:PORTION])
    reached = portion[-1][1] if portion else reached
    ids = [id for id, _ in portion] or list(
        tasks.filter(completed_at=None).order_by("id").values_list("id", flat=True)[:PORTION]
    )
    return ids, reached


def _next_waiting(decision: Decision) -> list[UUID]:
    tasks = _meant(What(decision.what), searching.search_of(decision.selection))
    if decision.until is not None:
        tasks = tasks.filter(created_at__lte=decision.until)
    if decision.reached is not None:
        tasks = tasks.filter(id__gt=decision.reached)
    return list(tasks.values_list("id", flat=True)[:PORTION])


def _decide_on_portion(decision: Decision, ids: list[UUID]) -> int:
    who, reason = decision.who, decision.reason
    if decision.what == What.DISCARD:
        return dead_letters.discard_portion(ids, reason=reason, who=who)
    if decision.what == What.CANCEL:
        return len(cancelling.end(ids, reason=reason, signum=None, who=who))
    pause = dead_letters.pause_of(decision.per_second)
    behind = (clock.now() - decision.begun_at).total_seconds() if pause else 0.0
    start = max(0.0, decision.done * pause - behind)
    if decision.what == What.RUN_NOW:
        return hastening.portion(ids, pause=pause, start=start, reason=reason, who=who)
    return dead_letters.replay_portion(ids, pause=pause, start=start, who=who)


@shared_task(name="celery_ledger.tasks.carry_out", base=Task, retries=BRISK, has_needs=False)
def carry_out(decision_id: int) -> dict[str, Any]:
    """Carry out a decision for a while and, if more is left, enqueue the rest. Repeatable: nothing is done twice."""
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
