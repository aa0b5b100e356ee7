"""A receiver with a bug: now and then its query fails."""

from typing import Any

from django.conf import settings
from django.db import connection

from bench.models import Order

#: One order in this many.
EVERY = 50


def count_points(sender: object, order: Order, **_: Any) -> None:
    """Query a missing table, in the process that places orders: the bug of one release."""
    if settings.BENCH_PLACES_ORDERS and order.pk % EVERY == 0:
        with connection.cursor() as cursor:
            cursor.execute("SELECT points FROM there_is_no_such_table")
