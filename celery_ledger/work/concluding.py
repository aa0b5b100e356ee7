"""What is written of rows that succeeded, in the transaction that completes them: the one place that knows them all."""

from collections.abc import Sequence
from dataclasses import dataclass

from celery.exceptions import Ignore

from celery_ledger.errors import ReplacedError
from celery_ledger.rows import following, ledger, outbox, results
from celery_ledger.rows.results import Outcome
from celery_ledger.work.runnable import Runnable


@dataclass(frozen=True)
class Success:
    """A row whose body ended well, its task, and what that returned."""

    task: Runnable
    row: ledger.Started
    outcome: Outcome


def conclude(successes: Sequence[Success]) -> None:
    """
    Write what rows came to that succeeded together, as a part of the transaction that completes them.

    What follows from a success belongs here: it exists if and only if the success does. Raises what the database
    raises; the rows are then as if they had not run, except for effects outside.
    """
    results.record([success.outcome for success in successes])
    for one in successes:
        if isinstance(one.outcome.value, ReplacedError):
            ledger.step_aside(one.row)
            outbox.write_held(one.outcome.value.calls)
    if followed := [one for one in successes if one.row.options and not isinstance(one.outcome.value, Ignore)]:
        following.succeeded(followed[0].task.app, [(one.row, one.outcome.value) for one in followed])
