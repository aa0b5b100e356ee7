"""What a command says when its database is not there."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import CommandError
from django.db import OperationalError


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """
    Say in one line that the database cannot be used.

    Raises:
        CommandError: an OperationalError was raised within.
    """
    try:
        yield
    except OperationalError as error:
        reason = " ".join(str(error).split())
        raise CommandError(f"The database that DATABASE_URL names cannot be used: {reason}") from None
