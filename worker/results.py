"""
What ``AsyncResult`` and the *Task results* admin know: rows of django-celery-results.

Written by the consumer in the transaction that ends an attempt, in one statement for a whole batch,
never by Celery's result backend: so that they can neither be lost nor say something else.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery import current_task, states
from django.db import connection
from django_celery_results.models import TaskResult
from kombu.utils.json import dumps

from worker import tally
from worker.sql import statements

SUCCESS = states.SUCCESS
RETRY = states.RETRY
FAILURE = states.FAILURE


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: its Celery state, and the value returned or the error raised."""

    id: UUID
    state: str
    value: Any = None
    traceback: str | None = None

    def as_json(self) -> str:
        """
        Return the value or error as Celery's JSON backends write it.

        Raises:
            kombu.exceptions.EncodeError: the task returned something that is not JSON.
        """
        if isinstance(self.value, BaseException):
            kind = type(self.value)
            return json.dumps(
                {
                    "exc_type": kind.__qualname__,
                    "exc_message": [str(argument) for argument in self.value.args],
                    "exc_module": kind.__module__,
                }
            )
        return str(dumps(self.value))


def record(outcomes: Sequence[Outcome]) -> None:
    """Write or replace the results of ledger rows, and count them, in the caller's transaction."""
    if not outcomes:
        return
    sql = statements(connection.vendor)
    message = current_task.request if current_task else None
    parameters: dict[str, Any] = {
        "worker": message and message.hostname,
        "slot": tally.own_slot(),
        "meta": json.dumps({"children": [], "message": message and message.id}),
    }
    if connection.vendor == "postgresql":
        parameters["ids"] = [outcome.id for outcome in outcomes]
        parameters["states"] = [outcome.state for outcome in outcomes]
        parameters["results"] = [outcome.as_json() for outcome in outcomes]
        parameters["tracebacks"] = [outcome.traceback for outcome in outcomes]
    else:
        parameters["outcomes"] = json.dumps(
            [
                {
                    "id": outcome.id.hex,
                    "task_id": str(outcome.id),
                    "state": outcome.state,
                    "result": outcome.as_json(),
                    "traceback": outcome.traceback,
                }
                for outcome in outcomes
            ]
        )
    with connection.cursor() as cursor:
        cursor.execute(sql.results, parameters)
        if sql.outcomes:
            cursor.execute(sql.outcomes, parameters)


def message_of(id: UUID) -> UUID | None:
    """Return the id of the message that carried a row last, under which Flower knows it; None if nobody can say."""
    meta = TaskResult.objects.filter(task_id=str(id)).values_list("meta", flat=True).first()
    message = json.loads(meta or "{}").get("message")
    return message and UUID(message)
