"""Retrying transactions that the database aborted because of another transaction."""

from collections.abc import Callable
from typing import Final, TypeVar

from django.db import OperationalError

Result = TypeVar("Result")

#: Deadlock victim and serialization failure: SQLSTATEs after which the transaction should be run again.
WORTH_RETRYING: Final = frozenset({"40P01", "40001"})
#: How often a transaction is tried at most.
ATTEMPTS: Final = 3


class LostRace(OperationalError):  # noqa: N818 - It names what is the matter, as its readers say it.
    """Another transaction was the first to commit the same write; a retry will see it."""


def persist(transaction: Callable[[], Result]) -> Result:
    """
    Run ``transaction``, which opens its own, and retry it if it lost against another one.

    Raises:
        OperationalError: it lost every time, or failed for another reason.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return transaction()
        except OperationalError as error:
            if not isinstance(error, LostRace) and getattr(error.__cause__, "sqlstate", None) not in WORTH_RETRYING:
                raise
    return transaction()
