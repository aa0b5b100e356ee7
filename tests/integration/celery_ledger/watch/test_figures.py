"""The figures of queues and tasks over time: they add up, are kept coarser with age, and say what was marked."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command

from celery_ledger import clock
from celery_ledger.desk import queues
from celery_ledger.models import FiguresSample, Heartbeat, Mark, Pace, Tally
from celery_ledger.rows.sql import LAG_BOUNDS
from celery_ledger.testing import drain
from celery_ledger.watch import figures, heartbeats, marks
from celery_ledger.watch.figures import Figures
from tests import probe
from tests.shop import api, make_user

pytestmark = pytest.mark.django_db(transaction=True)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def at(monkeypatch):
    """Return what sets the clock by which figures are taken and looked at."""

    def set_clock(moment):
        monkeypatch.setattr(clock, "now", lambda: moment)

    set_clock(NOON)
    return set_clock


def count(outcome, rows, *, queue="email", name="mail", bucket=0, slot=0):
    row, _ = Tally.objects.get_or_create(
        queue=queue, name=name, outcome=outcome, bucket=bucket, slot=slot, defaults={"rows": 0}
    )
    Tally.objects.filter(pk=row.pk).update(rows=row.rows + rows)


def outbox(*arguments):
    out = StringIO()
    call_command("outbox", "figures", *arguments, stdout=out)
    return out.getvalue()


def test_a_span_is_what_was_done_in_it(at):
    count("succeeded", 1_000, bucket=3)
    figures.take()
    at(NOON + timedelta(minutes=5))
    figures.take()
    count("succeeded", 90, bucket=2)  # Of two processes.
    count("succeeded", 10, bucket=7, slot=1)
    count("retried", 4)
    count("dead", 1)
    count("succeeded", 6, queue="default", name="other")
    at(NOON + timedelta(minutes=10))
    found = figures.overview("15m")

    [default, email] = found.queues
    assert (email.queue, email.succeeded, email.failed, email.retried, email.dead) == ("email", 100, 5, 4, 1)
    assert (default.succeeded, email.per_minute) == (6, 10.0)
    assert email.lag_p50 == pytest.approx(0.025 + 0.025 * 50 / 90)
    assert LAG_BOUNDS[6] < email.lag_p95 < email.lag_p99 <= LAG_BOUNDS[7]
    assert [(point.at, point.succeeded_per_minute) for point in found.points] == [
        (NOON + timedelta(minutes=5), 0.0),
        (NOON + timedelta(minutes=10), 21.2),
    ]
    assert figures.overview("15m", queue="default").points[-1].succeeded_per_minute == 1.2


def test_a_real_task_is_counted_with_its_run_time(at):
    figures.take()
    at(NOON + timedelta(minutes=1))
    for title in "abc":
        probe.make_collection.delay(title)
    drain()
    from celery_ledger.rows import paces

    paces.flush_if_due(at_once=True)
    [line] = [line for line in figures.overview("15m").tasks if line.task == "tests.make_collection"]

    assert (line.succeeded, line.failed) == (3, 0)
    assert 0 < line.run_seconds < 10
    assert line.lag_p50 is not None


def test_percentiles_are_between_the_bounds_of_their_bucket():
    longest = Figures(buckets=[0] * len(LAG_BOUNDS) + [5])
    assert longest.lag(0.5) == 3600.0
    assert Figures().lag(0.5) is None
    first = Figures(buckets=[4] + [0] * len(LAG_BOUNDS))
    assert first.lag(0.5) == pytest.approx(0.005)


def test_what_is_old_is_kept_coarser_and_then_not_at_all(at):
    for minutes in (*range(0, 12 * 24 * 60, 30), *range(11 * 24 * 60, 12 * 24 * 60)):
        FiguresSample.objects.get_or_create(at=NOON + timedelta(minutes=minutes), defaults={"figures": []})
    end = NOON + timedelta(days=12)
    at(end)
    figures.take()
    kept = list(FiguresSample.objects.values_list("at", flat=True))

    assert min(kept) >= end - timedelta(days=8)
    assert sum(each >= end - timedelta(hours=1) for each in kept) == 61
    assert all(each.minute % 5 == 0 for each in kept if each < end - timedelta(hours=1))
    assert all(each.minute == 0 for each in kept if each < end - timedelta(hours=12))
    assert len(kept) < 450


def test_a_minute_is_written_down_once(at):
    figures.take()
    figures.take()
    at(NOON + timedelta(seconds=59))
    figures.take()
    assert FiguresSample.objects.count() == 1


def test_a_count_that_was_set_back_is_nothing_done(at):
    count("succeeded", 50)
    figures.take()
    Tally.objects.all().delete()
    count("succeeded", 20)
    at(NOON + timedelta(minutes=2))
    assert figures.overview("15m").queues[0].succeeded == 0


def test_what_people_do_is_marked(settings):
    settings.LEDGER_RELEASE = "one"
    heartbeats.beat(Heartbeat.Kind.RELAY)
    heartbeats.beat(Heartbeat.Kind.WORKER)
    queues.pause("email")
    queues.pause("email")
    queues.resume("email")
    queues.limit("email", per_second=2.5, concurrency=3)
    heartbeats.end(Heartbeat.Kind.RELAY)
    settings.LEDGER_RELEASE = "two"
    heartbeats.beat(Heartbeat.Kind.RELAY)
    Mark.objects.create(kind="release", text="two")  # By another process at the same moment.

    marked = [mark.text for mark in marks.since(clock.now() - timedelta(minutes=1))]
    assert marked == ["one", "email paused", "email resumed", "email limited to 2.5 a second, 3 at once", "two"]
    assert marked == [mark["text"] for mark in api(make_user(is_staff=True)).get("/api/ops/figures/").json()["marks"]]


def test_the_api_and_the_command_line_say_the_same(at):
    figures.take()
    count("succeeded", 7, bucket=1)
    Pace.objects.create(name="mail", riders=1, bodies=7, body_seconds=3.5)
    at(NOON + timedelta(minutes=7))
    answer = api(make_user(is_staff=True)).get("/api/ops/figures/?span=15m").json()
    said = json.loads(outbox("--json"))

    assert answer["tasks"][0]["run_seconds"] == said["tasks"][0]["run_seconds"] == 0.5
    assert answer["queues"][0]["succeeded"] == said["queues"][0]["succeeded"] == 7
    assert "mail" in outbox("--tasks")
    assert "email" in outbox()


def test_where_nothing_was_written_down_it_says_so():
    answer = api(make_user(is_staff=True)).get("/api/ops/figures/?span=7d").json()
    assert (answer["since"], answer["points"], answer["queues"]) == (None, [], [])
    assert outbox() == "No figures yet: a relay records them every minute.\n"


@pytest.mark.parametrize("query", ["span=1h", "span=", "queue="])
def test_a_span_that_there_is_not_is_refused(query):
    assert api(make_user(is_staff=True)).get(f"/api/ops/figures/?{query}").status_code == 400
