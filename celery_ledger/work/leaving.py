"""
Rows of tasks that this process does not know: left to a process that does, in growing pauses, and given up after a day.

This happens during a deploy, when tasks of the next release reach workers of this one, and permanently if a release
drops a task. The pauses grow from a second to minutes, and are longer the more rows of a task are waiting, so that
thousands of rows cause only a few messages per second and do not delay others. When a worker that knows a task
starts, the task's rows are published at once.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from uuid import UUID

from celery_ledger import backoff
from celery_ledger.databases import atomic
from celery_ledger.rows import attempts, ledger, results
from celery_ledger.rows.results import Outcome
from celery_ledger.rows.wording import words_of

logger = logging.getLogger(__name__)

#: Seconds until a row is published again: the time that it has been waiting, within these bounds.
SHORTEST, LONGEST = 2.0, 300.0
#: Rows of one task that are published again per second in total, however many wait; pauses may then exceed the bounds.
RATE = 5.0
#: Seconds for which a row waits for a worker that knows its task.
PATIENCE = 24 * 3600.0
#: Rows of the same task that are left together with a row, before they become messages.
SIBLINGS = 1_000
#: This many of them become due at the same moment.
TOGETHER = 10


class UnknownTaskError(Exception):
    """This process has no such task: it is older or newer than the caller's process, or the message is forged."""


def leave(ids: Sequence[UUID], reason: str) -> None:
    """
    Give back rows that this process cannot run, for a process that can; no attempt is counted.

    Rows that no worker could run for a day become dead letters.
    """
    with atomic():
        rows = ledger.unrunnable(ids)
        given_up = [row for row in rows if row.unknown_for > PATIENCE]
        for row in given_up:
            _give_up(row.started, reason)
        by_name: defaultdict[tuple[str, str], list[ledger.Unrunnable]] = defaultdict(list)
        for row in rows:
            if row.unknown_for <= PATIENCE:
                by_name[row.queue, row.started.name].append(row)
        left = sum(_leave(queue, name, of_task) for (queue, name), of_task in by_name.items())
    if left:
        logger.warning("%d tasks are left to a worker that knows them: %s", left, reason)
    if given_up:
        logger.error("%d tasks are dead letters, because no worker knew them for a day: %s", len(given_up), reason)


def recall(names: Collection[str]) -> int:
    """Make rows of these tasks, left by other workers that did not know them, due now; return how many."""
    recalled = ledger.recall(names)
    if recalled:
        logger.info("%d tasks that were left by other workers are known here.", recalled)
    return recalled


def _leave(queue: str, name: str, rows: list[ledger.Unrunnable]) -> int:
    """Postpone these rows of a task, and its other due rows; return how many."""
    siblings = ledger.due_siblings(queue, name, most=SIBLINGS)
    crowd = (ledger.count_unknown(name) + len(rows) + len(siblings)) / RATE
    for row in rows:
        pause = max(min(max(row.unknown_for, SHORTEST), LONGEST), crowd)
        ledger.postpone([row.started.id], delay=backoff.jittered(pause))
    for start in range(0, len(siblings), TOGETHER):
        ledger.postpone(siblings[start : start + TOGETHER], delay=backoff.jittered(max(SHORTEST, crowd)))
    return len(rows) + len(siblings)


def _give_up(row: ledger.Started, reason: str) -> None:
    error = UnknownTaskError(reason)
    if ledger.fail(row, words_of(error), dead=True, delay=0, counted=True):
        results.record([Outcome(row.id, results.FAILURE, error)], is_told=False)
        attempts.record_failure(row, words_of(error), "")
