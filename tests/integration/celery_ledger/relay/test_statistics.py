"""New tables are analyzed before plans for small tables become slow ones."""

import pytest
from django.db import connection

from celery_ledger.relay import statistics
from celery_ledger.relay.rounds import rounds

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]
FILL = """
    INSERT INTO celery_ledger_durabletask (id, name, queue, args, kwargs)
    SELECT gen_random_uuid(), 'tests.ring', 'default', '[]', '{}' FROM generate_series(1, %s)
"""


@pytest.fixture
def run():
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE celery_ledger_durabletask CASCADE")
        cursor.execute("VACUUM celery_ledger_durabletask")
        yield cursor.execute
        cursor.execute("RESET ROLE")


def known():
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = 'celery_ledger_durabletask'::regclass")
        return cursor.fetchone()[0]


def test_a_table_is_analyzed_as_often_as_it_has_grown_fivefold(run):
    statistics.keep()
    assert known() == 0
    run(FILL, [2_000])
    statistics.keep()
    assert known() == 2_000
    run(FILL, [2_000])
    statistics.keep()
    assert known() == 2_000
    run(FILL, [10_000])
    statistics.keep()
    assert known() == 14_000


def test_who_does_not_own_the_tables_leaves_them_alone(run):
    run(FILL, [2_000])
    run("SET ROLE pg_monitor")
    statistics.keep()
    assert known() == 0


def test_each_relay_does_it():
    assert statistics.keep in [round.make for round in rounds()]
