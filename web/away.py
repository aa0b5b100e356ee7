"""
The consequences for a request if the database is away, refuses, or is read-only.

Called where errors are answered: in problems.py, and by the pages outside the API.
"""

import traceback
from typing import Final

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError

from web.patience import leave_all

#: ``read_only_sql_transaction``: the server was demoted, or set to read-only.
READ_ONLY: Final = "25006"
#: SQLSTATEs of other classes by which the server ended the session itself: it was idle for too long.
ENDED: Final = frozenset({"25P03", "25P04"})
#: Classes of SQLSTATEs with which a connection ends, perhaps after its COMMIT; and those among them that come before
#: it.
ENDS: Final = ("08", "57")
ENDS_BEFORE: Final = frozenset({"57014", "57P03"})  # The statement was cancelled; the server is starting.
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

NOTHING_DONE: Final = "The shop cannot reach its database. Nothing was done; try again."
UNKNOWN: Final = (
    "The connection to the database was lost, and the outcome of this request is unknown. Check before you repeat it, "
    "or repeat it with the same Idempotency-Key."
)


def is_away(error: BaseException | None) -> bool:
    """
    Whether ``error`` was caused by the database, not by the request.

    A read-only server may have been demoted while another one took its place: from then on, each thread of this process
    opens a new connection.
    """
    if _sqlstate(error) == READ_ONLY:
        leave_all()
        return True
    return isinstance(error, OperationalError | InterfaceError) or _sqlstate(error) in ENDED


def what_was_done(error: BaseException, method: str | None) -> str:
    """Return what to report to a client: that nothing was done only if that is certain."""
    return NOTHING_DONE if method in SAFE_METHODS or _is_undone(error) else UNKNOWN


def _is_undone(error: BaseException) -> bool:
    """Whether it is certain that no COMMIT or autocommitted statement was executed without an answer."""
    if not isinstance(error.__cause__, psycopg.Error):
        return True  # SQLite runs in this process; a transaction that lost a race was rolled back.
    sqlstate = _sqlstate(error)
    if sqlstate is None:
        frames = traceback.walk_tb(error.__traceback__)
        return any(frame.f_code.co_name == "get_new_connection" for frame, _ in frames)
    return not sqlstate.startswith(ENDS) or sqlstate in ENDS_BEFORE


def _sqlstate(error: BaseException | None) -> str | None:
    known = getattr(error.__cause__, "sqlstate", None) if isinstance(error, DatabaseError | InterfaceError) else None
    return None if known is None else str(known)
