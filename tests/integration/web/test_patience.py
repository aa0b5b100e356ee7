"""A request disconnects from a database that does not answer, and waits for one that is only busy."""

import threading
import time

import pytest
from django.db import OperationalError, connection, connections

from web.patience import Line

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


def sleep_in_the_database(seconds):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


def test_a_statement_that_is_not_answered_is_cut_and_many_that_are_answered_are_not():
    connection.ensure_connection()
    line, done = Line(connections["default"]), threading.Event()

    def look():
        while not done.wait(0.2):
            line.look(3)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        for _ in range(6):
            sleep_in_the_database(0.7)
        began = time.monotonic()
        with pytest.raises(OperationalError):
            sleep_in_the_database(30)
        assert time.monotonic() - began < 20
    finally:
        done.set()
        watch.join()
        connection.execute_wrappers.pop()
        connection.close()
