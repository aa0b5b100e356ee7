"""Tasks of both kinds, and one that fails."""

import time
from typing import Any

from celery_ledger import databases
from celery_ledger.errors import PermanentError
from tests.package.sharded import app
from tests.package.sharded.models import Effect


@app.task(bind=True, transactional=True)
def keep(self: Any, what: str) -> str:
    """Have an effect in the database of this task, in its transaction."""
    Effect.objects.create(what=what, task=self.request.id)
    return f"{what} in {databases.current()}"


@app.task(bind=True, transactional=True)
def hold(self: Any, what: str, seconds: float) -> None:
    """Have the effect late in the transaction."""
    Effect.objects.create(what=what, task=self.request.id)
    time.sleep(seconds)


@app.task(bind=True)
def call_out(self: Any, what: str, seconds: float = 0) -> str:
    """Have an effect outside of the ledger's transactions, and call a task about it."""
    time.sleep(seconds)
    Effect.objects.create(what=what, task=self.request.id)
    keep.delay(f"after {what}")
    return f"{what} in {databases.current()}"


@app.task
def add(numbers: list[int]) -> int:
    """The body of a chord."""
    return sum(numbers)


@app.task
def same(number: int) -> int:
    """A member of one."""
    return number


@app.task(transactional=True)
def refuse() -> None:
    """Become a dead letter."""
    raise PermanentError("never")
