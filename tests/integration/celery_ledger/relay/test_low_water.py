"""How early the leases end that a relay's searches read: not those of finished tasks, and early enough to miss none."""

import time
from datetime import timedelta

import psycopg
import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from celery_ledger.models import DurableTask
from celery_ledger.relay import low_water
from celery_ledger.relay.low_water import LowWater
from celery_ledger.rows import ledger
from tests import probe
from tests.processes import database_url

pytestmark = pytest.mark.postgresql


def published(number=1, *, lease=60.0):
    for place in range(number):
        probe.make_collection.delay(str(place))
    return [row.id for row in ledger.claim({"default": number}, lease=lease, limit=number)]


def moved(ids, seconds):
    DurableTask.objects.filter(id__in=ids).update(lease_until=Now() + timedelta(seconds=seconds))


@pytest.mark.django_db
def test_without_rows_the_searches_start_shortly_before_what_new_rows_will_have():
    water = LowWater()
    assert (water.ended, water.published) == (None, None)
    water.look(lease=60)
    assert (water.published - water.ended).total_seconds() == 60
    assert not water.has_ended
    assert not water.has_published
    assert ledger.waiting_queues(older_than=-1, since=water.published) == []
    published()
    assert ledger.waiting_queues(older_than=-1, since=water.published) == ["default"]


@pytest.mark.django_db
def test_they_start_at_the_earliest_lease_that_is_left():
    [earlier], [later] = published(), published()
    moved([earlier], -30)
    moved([later], 20)
    water = LowWater()
    water.look(lease=60)
    [first] = DurableTask.objects.filter(id=earlier).values_list("lease_until", flat=True)
    assert (water.ended, water.published) == (first, first)
    assert water.has_ended
    assert water.has_published
    assert ledger.lapse_expired(since=water.ended) == 1
    water.look(lease=60)
    [second] = DurableTask.objects.filter(id=later).values_list("lease_until", flat=True)
    assert water.published == second
    assert first < water.ended < second


@pytest.mark.django_db
def test_a_lease_that_is_earlier_than_new_ones_is_found_by_the_next_whole_look(monkeypatch):
    water = LowWater()
    water.look(lease=60)
    moved(published(), -30)
    water.look(lease=60)
    assert ledger.lapse_expired(since=water.ended) == 0
    clock = time.monotonic() + 100 * low_water.INTERVAL
    monkeypatch.setattr(low_water.time, "monotonic", lambda: clock)
    water.look(lease=60)
    assert ledger.lapse_expired(since=water.ended) == 1


@pytest.mark.django_db
def test_whole_looks_take_a_hundredth_of_the_time(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(low_water.time, "monotonic", lambda: clock[0])
    asked = []

    def slowly(**since):
        asked.append(since["ended"])
        clock[0] += 0.5
        return usual(**since)

    usual = ledger.earliest_leases
    monkeypatch.setattr(low_water.ledger, "earliest_leases", slowly)
    water = LowWater()
    for _ in range(52):
        water.look(lease=60)
        clock[0] += 0.5
    assert [since is None for since in asked] == [True, *[False] * 50, True]


def blocks(since):
    waiting = ledger.leased(since).filter(status="published", published_at__lt=Now() - timedelta(seconds=5))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")  # The table is small here.
        plan = waiting.order_by().values("queue").distinct().explain(analyze=True, buffers=True, format="json")
    found = plan if isinstance(plan, str) else str(plan)
    return int(found.partition('"Shared Hit Blocks": ')[2].partition(",")[0])


@pytest.mark.django_db(transaction=True)
def test_leases_of_tasks_done_under_a_snapshot_are_not_read():
    water = LowWater()
    water.look(lease=60)
    with psycopg.connect(database_url()) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM celery_ledger_durabletask")
        for _ in range(10):
            ids = published(100)
            DurableTask.objects.filter(id__in=ids).update(status="succeeded", lease_until=None)
        with connection.cursor() as cursor:  # As later ones are: these ended in less than a second.
            cursor.execute("SELECT max(lease_until) FROM (SELECT now() + interval '60 s' AS lease_until) AS new")
            [now] = cursor.fetchone()
        assert blocks(None) > 8, "the snapshot kept nothing"
        assert blocks(now) < blocks(None) / 2
