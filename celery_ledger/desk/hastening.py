"""Running waiting tasks now, or in order at a limited rate."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now

from celery_ledger import clock, sqlite
from celery_ledger.context import current_actor
from celery_ledger.databases import atomic
from celery_ledger.models import DurableTask
from celery_ledger.signals import tasks_hastened

#: How many tasks one transaction makes due.
PORTION = 1_000
#: What can be made due: tasks that wait for their time.
LATER = Q(status=DurableTask.Status.PENDING, available_at__gt=Now())


def run_now(ids: Iterable[UUID], *, reason: str = "", per_second: float | None = None) -> int:
    """
    Run tasks that are due later now, or in this order at ``per_second`` tasks a second; return how many waited.

    A task that is due, running or ended is left alone. There may be any number; each portion is a transaction.
    """
    count, given, pause = 0, list(dict.fromkeys(ids)), 1 / per_second if per_second else 0.0
    for start in range(0, len(given), PORTION):
        count += portion(given[start : start + PORTION], pause=pause, start=count * pause, reason=reason)
    return count


def portion(ids: Sequence[UUID], *, reason: str, pause: float = 0.0, start: float = 0.0, who: int | None = None) -> int:
    """
    Make these tasks due in one transaction, the first in ``start`` seconds, one every ``pause`` seconds.

    ``who`` made the decision; by default, the user of the current request.
    """
    with atomic():
        sqlite.write_first()
        place = {id: number for number, id in enumerate(ids)}
        waiting = DurableTask.objects.filter(LATER, id__in=ids).select_for_update().values_list("id", "available_at")
        tasks = sorted(waiting, key=lambda task: place[task[0]])
        if not tasks:
            return 0
        chosen = [id for id, _ in tasks]
        if pause or start:
            now = clock.now() + timedelta(seconds=start)
            rows = [
                DurableTask(id=id, available_at=now + number * timedelta(seconds=pause))
                for number, id in enumerate(chosen)
            ]
            DurableTask.objects.bulk_update(rows, ["available_at"], batch_size=PORTION)
        else:
            DurableTask.objects.filter(id__in=chosen).update(available_at=Now())
        tasks_hastened.send_robust(
            sender=DurableTask,
            tasks=[[str(id), available_at.isoformat()] for id, available_at in tasks],
            reason=reason[:500],
            who=current_actor() if who is None else who,
        )
    return len(tasks)
