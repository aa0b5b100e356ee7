"""Two beats, or one killed again and again: each due time is enqueued once."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.db import connection
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from celery_ledger.contrib.beat.models import SchedulePolicy
from celery_ledger.models import DurableTask
from tests.processes import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.once]


def runs() -> list[str]:
    return sorted(DurableTask.objects.filter(name="tests.make_collection").values_list("unique_key", flat=True))


@pytest.mark.fault("F47")
def test_two_beats_and_a_killed_one_enqueue_each_due_time_once(machine):
    every_second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
    PeriodicTask.objects.create(name="often", task="tests.make_collection", interval=every_second, args='["scheduled"]')
    first, _ = machine.start_beat(), machine.start_beat()
    wait_until("both beats run", lambda: len(runs()) >= 3, seconds=40)
    first.kill()
    machine.start_beat()
    wait_until("runs go on", lambda: len(runs()) >= 10, seconds=40)
    due_times = [key.removeprefix("beat:often:") for key in runs()]
    assert len(set(due_times)) == len(due_times)


@pytest.mark.fault("F48")
def test_a_beat_that_is_killed_every_few_seconds_misses_no_due_time_of_a_schedule_that_catches_up(machine):
    every_second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
    often = PeriodicTask.objects.create(
        name="often", task="tests.make_collection", interval=every_second, args='["scheduled"]'
    )
    SchedulePolicy.objects.create(schedule=often, catch_up="all", alert_after=0)
    for expected in (3, 8, 13):
        beat = machine.start_beat()
        wait_until("it runs", lambda expected=expected: len(runs()) >= expected, seconds=40)
        beat.kill()
    machine.start_beat()
    wait_until("it runs again", lambda: len(runs()) >= 18, seconds=40)
    times = [datetime.fromisoformat(key.removeprefix("beat:often:")) for key in runs()]
    assert {later - sooner for sooner, later in pairwise(times)} == {timedelta(seconds=1)}


@pytest.mark.fault("F85")
@pytest.mark.postgresql
def test_f85_a_beat_whose_database_goes_at_due_times_makes_up_for_each(own_postgresql, machine):
    every_second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
    PeriodicTask.objects.all().delete()
    often = PeriodicTask.objects.create(
        name="often", task="tests.make_collection", interval=every_second, args='["scheduled"]'
    )
    SchedulePolicy.objects.create(schedule=often, catch_up="all", alert_after=0)
    beat = machine.start_beat()
    wait_until("it runs", lambda: len(runs()) >= 2, seconds=40)
    for is_started_again in (False, False, True):
        connection.close()
        own_postgresql.stop_at_once()
        gone = datetime.now(UTC)
        if is_started_again:
            beat.kill()
            beat = machine.start_beat()
        wait_until("due times pass", lambda gone=gone: datetime.now(UTC) - gone > timedelta(seconds=4))
        assert beat.is_alive
        own_postgresql.start()
        before = len(runs())
        wait_until("it goes on", lambda before=before: len(runs()) > before + 5, seconds=40)
    times = [datetime.fromisoformat(key.removeprefix("beat:often:")) for key in runs()]
    assert {later - sooner for sooner, later in pairwise(times)} == {timedelta(seconds=1)}
    assert beat.is_alive
    assert "Traceback" not in beat.log.read_text()
