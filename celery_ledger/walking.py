"""
Reading any number of rows in portions, each with a separate statement.

A cursor that the server keeps open between statements needs a session of its own, which a pooler in transaction mode
does not give, and holds a snapshot for as long as the reader reads.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

__all__ = ["walk", "walk_keys"]

M = TypeVar("M", bound=Model)
#: How many rows one statement reads.
PORTION = 2_000


def walk(rows: QuerySet[M]) -> Iterator[M]:
    """Yield all of ``rows``, by primary key."""
    rest = rows.order_by("pk")
    portion = list(rest[:PORTION])
    while portion:
        yield from portion
        portion = list(rest.filter(pk__gt=portion[-1].pk)[:PORTION]) if len(portion) == PORTION else []


def walk_keys(rows: QuerySet[Any]) -> Iterator[Any]:
    """Yield the primary keys of all of ``rows``, in order."""
    rest = rows.order_by("pk").values_list("pk", flat=True)
    portion = list(rest[:PORTION])
    while portion:
        yield from portion
        portion = list(rest.filter(pk__gt=portion[-1])[:PORTION]) if len(portion) == PORTION else []
