"""
Kills the worker processes that run given rows, on any machine of the cluster.

Celery's remote control tells every worker, and the one whose process has a message that names a row kills that process,
as Celery's ``terminate`` does. Nothing is asked back: the row's lock shows whether it ended.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any
from uuid import UUID

from celery import platforms
from celery.worker import state as worker_state

from celery_ledger.project import find_app
from celery_ledger.work.request import LedgerRequest

logger = logging.getLogger(__name__)

#: The remote control's command; see celery_ledger/desk/remote.py.
COMMAND = "ledger_terminate"


def signum_of(signal: str | int | None) -> int:
    """
    Return the number of a signal, ``TERM`` by default.

    Raises:
        ValueError: there is no signal of that name.
    """
    try:
        return int(platforms.signals.signum(signal or "TERM"))
    except (AttributeError, TypeError):
        raise ValueError(f"There is no signal {signal!r}.") from None


def tell_all(ids: Collection[UUID], *, reason: str, signum: int) -> bool:
    """Tell every worker to kill the process that runs one of these rows; False if the broker is away."""
    app = find_app()
    try:
        with app.connection_for_write() as connection:
            connection.connect()  # Only once: left alone, the remote control would wait for the broker forever.
            arguments = {"ids": [str(id) for id in ids], "reason": reason, "signum": signum}
            app.control.broadcast(COMMAND, arguments=arguments, connection=connection)
    except Exception as error:  # noqa: BLE001 - of whatever transport; and what can be fenced off is all the same
        logger.warning("Workers cannot be told to end %d tasks: %r", len(ids), error)
        return False
    return True


def kill_here(pool: Any, ids: Collection[UUID], *, signum: int, then: Callable[[Sequence[UUID]], object]) -> list[UUID]:
    """
    Kill this worker's processes whose message has one of these rows; return those rows.

    ``then`` is called with them when the process is gone, before the message's other rows are given back.
    """
    told: list[UUID] = []
    for request in list(worker_state.reserved_requests):
        if not isinstance(request, LedgerRequest):
            continue
        carried = [id for id in ids if str(id) in request.ids]
        if carried and request.kill(pool, carried, signum=signum, then=then):
            told += carried
    return told
