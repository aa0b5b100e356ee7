"""Members of a large chord count themselves without waiting for each other, whoever turns out to be the last."""

import threading

import pytest
from celery import chord
from django.db import connection, connections

from celery_ledger.models import Chord, DurableTask, Part
from celery_ledger.rows.sql import FEW_MISSING
from celery_ledger.testing import drain
from tests import probe
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def other():
    """A second connection to the database."""
    other = connections.create_connection("default")
    yield other
    other.close()


def is_waiting(other):
    with other.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return cursor.fetchone()[0] > 0


@pytest.mark.skipif(connection.vendor != "postgresql", reason="On SQLite, one transaction writes at a time.")
def test_who_turns_out_to_be_the_last_calls_the_body(other, tmp_path):
    """It saw that many parts were missing; while it waits for the counter, all the others end."""
    mark = tmp_path / "mark"
    members = [probe.leave_mark.si(str(mark), 0) for _ in range(FEW_MISSING + 2)]
    chord(members, probe.make_collection.si("body")).delay()
    first = DurableTask.objects.earliest("id")
    DurableTask.objects.exclude(id=first.id).delete()

    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute("UPDATE celery_ledger_chord SET missing = 1")

    def run():
        drain()
        connection.close()

    worker = threading.Thread(target=run)
    worker.start()
    wait_until("the member waits for the counter", lambda: is_waiting(other), seconds=10)
    other.commit()
    worker.join(timeout=30)

    assert Chord.objects.get().missing == 0
    assert [part.task for part in Part.objects.all()] == [first.id]
    ended = DurableTask.objects.order_by("id").values_list("name", "status", "attempts")
    assert list(ended) == [("tests.leave_mark", "succeeded", 1), ("tests.make_collection", "succeeded", 1)]
    assert mark.read_text() == "mark\n"
