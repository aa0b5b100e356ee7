"""Everything written about rows that succeeded, in the transaction that completes them: gathered in this one place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from celery.exceptions import Ignore

from celery_ledger.errors import ReplacedError
from celery_ledger.rows import following, ledger, outbox, results
from celery_ledger.rows.results import Outcome
from celery_ledger.work.runnable import Runnable


@dataclass(frozen=True)
class Success:
    """A row whose body succeeded, its task, and its outcome."""

    task: Runnable
    row: ledger.Started
    outcome: Outcome


def conclude(successes: Sequence[Success]) -> None:
    """
    Write the outcomes of rows that succeeded together, as a part of the transaction that completes them.

    All consequences of a success belong here: they exist if and only if the success does. Database errors propagate;
    the rows are then as if they had not run, except for effects outside the database.
    """
    if not successes:
        return
    first: Callable[[], None] = partial(results.record, [success.outcome for success in successes])
    if replaced := [one for one in successes if isinstance(one.outcome.value, ReplacedError)]:
        first()
        first = following.nothing
        for one in replaced:
            ledger.step_aside(one.row)
            outbox.write_held(one.outcome.value.calls)
    ended = [(one.row, one.outcome.value) for one in successes if not isinstance(one.outcome.value, Ignore)]
    following.succeeded(successes[0].task.app, ended, first)
