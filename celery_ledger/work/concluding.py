"""Everything written about rows that succeeded, in the transaction that completes them: gathered in this one place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from celery.exceptions import Ignore

from celery_ledger.errors import ReplacedError
from celery_ledger.rows import following, ledger, outbox, results
from celery_ledger.rows.results import Outcome
from celery_ledger.trips import with_the_commit
from celery_ledger.work.runnable import Runnable


@dataclass(frozen=True)
class Success:
    """A row whose body succeeded, its task, and its outcome."""

    task: Runnable
    row: ledger.Started
    outcome: Outcome


def conclude(successes: Sequence[Success], *, before: Callable[[], None] | None = None) -> None:
    """
    Write the outcomes of rows that succeeded together, as the last part of the transaction that completes them.

    All consequences of a success belong here: they exist if and only if the success does. Database errors propagate;
    the rows are then as if they had not run, except for effects outside the database. If nothing follows, the
    ``COMMIT`` is sent along with the outcomes. ``before`` is called before anything is written.
    """
    if not successes:
        return

    def first() -> None:
        if before is not None:
            before()
        results.record([success.outcome for success in successes])

    if not any(following.is_followed(success.row) or _is_replaced(success) for success in successes):
        with with_the_commit():
            first()
        return
    if replaced := [one for one in successes if _is_replaced(one)]:
        first()
        first = following.nothing
        for one in replaced:
            ledger.step_aside(one.row)
            outbox.write_held(one.outcome.value.calls)
    ended = [(one.row, one.outcome.value) for one in successes if not isinstance(one.outcome.value, Ignore)]
    following.succeeded(successes[0].task.app, ended, first)


def _is_replaced(success: Success) -> bool:
    return isinstance(success.outcome.value, ReplacedError)
