"""Two beats, or one killed again and again: each due time is enqueued once."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from tests.processes import wait_until
from worker.models import DurableTask, SchedulePolicy

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
