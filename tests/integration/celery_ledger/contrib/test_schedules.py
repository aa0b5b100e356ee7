"""Schedules: each due time runs once, missed ones according to the policy; and the scheduled tasks."""

import importlib
import sys
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from unittest import mock

import pytest
import time_machine
from django.apps import apps
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from celery_ledger.contrib.beat.due_times import late_schedules, next_due
from celery_ledger.contrib.beat.lateness import announce_late_schedules
from celery_ledger.contrib.beat.models import SchedulePolicy
from celery_ledger.contrib.beat.schedule import LedgerScheduler
from celery_ledger.models import DurableTask
from celery_ledger.project import import_tasks
from celery_ledger.promises import promises
from celery_ledger.relay.relay import Relay
from celery_ledger.testing import drain, enqueued
from celery_ledger.watch import watchdog
from email_app.models import EmailDelivery
from notifications.models import Notification
from store.models import Cart, IdempotencyKey, Stock
from tests.shop import api, browser_of, check_out, make_cart, make_customer, make_manager, make_product
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2030, 3, 4, 12, 0, 30, tzinfo=UTC)


def seed():
    migration = importlib.import_module("accounts.migrations.0005_schedules")
    with mock.patch.object(migration, "POLICIES", ("celery_ledger_beat", "SchedulePolicy")):
        migration.seed(apps, None)


def schedule(*, last_run_at, catch_up=None, alert_after=None, **when):
    kind = CrontabSchedule if "minute" in when else IntervalSchedule
    PeriodicTask.objects.all().delete()
    timing = kind.objects.create(**when, **({"timezone": "UTC"} if kind is CrontabSchedule else {}))
    row = PeriodicTask.objects.create(
        name="often",
        task="tests.make_collection",
        args='["scheduled"]',
        last_run_at=last_run_at,
        **{"crontab" if kind is CrontabSchedule else "interval": timing},
    )
    if catch_up or alert_after is not None:
        given = {"catch_up": catch_up, "alert_after": alert_after}
        SchedulePolicy.objects.create(schedule=row, **{key: value for key, value in given.items() if value is not None})
    return row


def make_beat():
    scheduler = LedgerScheduler(app=app, lazy=True)
    scheduler._finalize.cancel()  # It would sync when the test run ends.
    return scheduler


def beat(turns=3):
    """Run one turn of a beat that has just started."""
    scheduler = make_beat()
    for _ in range(turns):
        scheduler.tick()


def due_times(name="often"):
    keys = DurableTask.objects.filter(unique_key__startswith=f"beat:{name}:").values_list("unique_key", flat=True)
    return sorted(key.removeprefix(f"beat:{name}:") for key in keys)


def hours(*numbers):
    return [f"2030-03-04T{number:02}:00:00+00:00" for number in numbers]


HOURLY = {"minute": "0", "hour": "*"}
EACH_HOUR = {"every": 1, "period": "hours"}


@pytest.mark.parametrize("when", [HOURLY, EACH_HOUR], ids=["crontab", "interval"])
@pytest.mark.parametrize(
    ("catch_up", "expected"), [(None, hours(12)), ("once", hours(12)), ("all", hours(10, 11, 12)), ("skip", hours(12))]
)
def test_after_a_downtime_each_schedule_catches_up_as_its_policy_says(when, catch_up, expected):
    schedule(last_run_at=NOON - timedelta(hours=3), catch_up=catch_up, **when)
    with time_machine.travel(NOON, tick=False):
        beat()
        beat()
    assert due_times() == expected


@pytest.mark.parametrize("when", [HOURLY, EACH_HOUR], ids=["crontab", "interval"])
@pytest.mark.parametrize(("catch_up", "expected"), [("once", hours(12)), ("skip", [])])
def test_a_due_time_that_passed_a_while_ago_is_missed(when, catch_up, expected):
    schedule(last_run_at=NOON - timedelta(hours=3), catch_up=catch_up, **when)
    with time_machine.travel(NOON + timedelta(minutes=20), tick=False):
        beat()
    assert due_times() == expected
    with time_machine.travel(NOON + timedelta(hours=1), tick=False):
        beat()
    assert due_times() == expected + hours(13)


def test_a_run_is_not_begun_later_after_its_due_time_than_its_schedule_allows():
    row = schedule(last_run_at=NOON - timedelta(hours=1), catch_up="all", **HOURLY)
    PeriodicTask.objects.filter(pk=row.pk).update(expire_seconds=90)
    with time_machine.travel(NOON, tick=False):
        beat()
    [task] = enqueued("tests.make_collection")
    assert task.expires_at == NOON + timedelta(minutes=1)  # It is half a minute past noon.


def test_a_schedule_that_is_due_at_another_hour_than_beat_comes_back_at_is_not_forgotten():
    schedule(last_run_at=NOON - timedelta(days=1), minute="0", hour="4")
    with time_machine.travel(NOON, tick=False):
        beat()
    assert due_times() == hours(4)


@pytest.mark.fault("F50")
@pytest.mark.parametrize(
    ("hour", "begin", "days"),
    [
        ("3", datetime(2030, 3, 29, 12, tzinfo=UTC), ["2030-03-30T03:00", "2030-03-31T02:00", "2030-04-01T02:00"]),
        ("3", datetime(2030, 10, 25, 12, tzinfo=UTC), ["2030-10-26T02:00", "2030-10-27T03:00", "2030-10-28T03:00"]),
    ],
    ids=["clocks go forward", "clocks go back"],
)
def test_a_daily_run_happens_once_a_day_when_the_clocks_change(hour, begin, days):
    row = schedule(last_run_at=begin, catch_up="all", alert_after=0, minute="0", hour=hour)
    CrontabSchedule.objects.filter(pk=row.crontab_id).update(timezone="Europe/London")
    for half_hours in range(6 * 24):
        with time_machine.travel(begin + timedelta(minutes=30 * half_hours, seconds=5), tick=False):
            beat(turns=1)
    assert due_times() == [f"{day}:00+00:00" for day in days]


def test_two_beats_make_one_row_of_each_due_time():
    schedule(last_run_at=NOON - timedelta(hours=3), catch_up="all", **HOURLY)
    with time_machine.travel(NOON, tick=False):
        for _ in range(2):
            PeriodicTask.objects.update(last_run_at=NOON - timedelta(hours=3))
            beat()
    assert due_times() == hours(10, 11, 12)


def test_a_schedule_that_is_late_is_announced_to_the_managers_once():
    manager = make_manager()
    schedule(last_run_at=NOON - timedelta(hours=3), **HOURLY)
    with time_machine.travel(NOON, tick=False):
        for _ in range(2):
            PeriodicTask.objects.update(last_run_at=NOON - timedelta(hours=3))
            beat()
    drain()
    [note] = Notification.objects.filter(user=manager)
    assert note.message.startswith("The schedule 'often' was due at 2030-03-04T10:00:00+00:00")


@pytest.mark.parametrize("when", [HOURLY, {"every": 1, "period": "seconds"}], ids=["crontab", "each second"])
def test_relays_tell_the_managers_once_while_no_beat_runs_and_beat_adds_nothing(when):
    manager = make_manager()
    schedule(last_run_at=NOON - timedelta(hours=3), **when)
    for minutes in (0, 1, 30):
        with time_machine.travel(NOON + timedelta(minutes=minutes), tick=False):
            announce_late_schedules()
    drain()
    assert Notification.objects.filter(user=manager, kind="schedule_late").count() == 1
    with time_machine.travel(NOON + timedelta(minutes=31), tick=False):
        beat()
        announce_late_schedules()
    assert len(enqueued("notifications.tasks.alert_late_schedule")) == 1


def test_a_relay_looks_for_late_schedules_now_and_then():
    make_manager()
    schedule(last_run_at=timezone.now() - timedelta(hours=3), **HOURLY)
    relay = Relay(app, window=1, lease=60)
    relay.make_rounds()
    assert enqueued("notifications.tasks.alert_late_schedule") == []
    relay._rounds = dict.fromkeys(relay._rounds, 0.0)
    relay.make_rounds()
    assert len(enqueued("notifications.tasks.alert_late_schedule")) == 1


def test_what_passed_before_a_schedule_starts_is_neither_late_nor_run():
    make_manager()
    row = schedule(last_run_at=None, catch_up="all", **HOURLY)
    PeriodicTask.objects.filter(pk=row.pk).update(
        date_changed=NOON - timedelta(hours=5), start_time=NOON - timedelta(hours=1)
    )
    with time_machine.travel(NOON, tick=False):
        beat()
        beat()
    assert due_times() == hours(12)
    assert enqueued("notifications.tasks.alert_late_schedule") == []


def test_two_beats_begin_a_schedule_once_when_it_starts():
    row = schedule(last_run_at=None, **HOURLY)
    start = NOON + timedelta(minutes=20)
    PeriodicTask.objects.filter(pk=row.pk).update(date_changed=NOON - timedelta(hours=5), start_time=start)
    for seconds in (1, 2):
        PeriodicTask.objects.filter(pk=row.pk).update(last_run_at=None)
        with time_machine.travel(start + timedelta(seconds=seconds), tick=False):
            beat()
    assert due_times() == [start.isoformat()]


@pytest.mark.parametrize(("alert_after", "ago"), [(0, 180), (300, 1)])
def test_a_schedule_that_is_on_time_or_may_be_late_is_not_announced(alert_after, ago):
    make_manager()
    schedule(last_run_at=NOON - timedelta(minutes=ago), alert_after=alert_after, **HOURLY)
    with time_machine.travel(NOON, tick=False):
        beat()
    assert len(due_times()) == 1
    assert enqueued("notifications.tasks.alert_late_schedule") == []


@pytest.mark.parametrize("when", [HOURLY, EACH_HOUR], ids=["crontab", "interval"])
def test_a_schedule_that_no_beat_runs_breaks_a_promise_until_one_does(when):
    schedule(last_run_at=NOON - timedelta(minutes=20), **when)
    late = promises()["No schedule is late."]
    with time_machine.travel(NOON + timedelta(seconds=200), tick=False):
        assert list(late()) == []
    with time_machine.travel(NOON + timedelta(seconds=300), tick=False):
        assert list(late()) == ["'often' was due at 2030-03-04 12:00:00 UTC and has not run: is a beat running?"]
        beat()
        assert list(late()) == []


def test_a_schedule_that_never_ran_is_late_when_its_first_time_has_passed():
    row = schedule(last_run_at=None, **HOURLY)
    PeriodicTask.objects.filter(pk=row.pk).update(date_changed=NOON)
    late = promises()["No schedule is late."]
    with time_machine.travel(NOON + timedelta(minutes=50), tick=False):
        assert list(late()) == []
    with time_machine.travel(NOON + timedelta(minutes=70), tick=False):
        assert len(list(late())) == 1


@pytest.mark.parametrize(
    "off", [{"enabled": False}, {"start_time": NOON + timedelta(days=9)}, {"expires": NOON - timedelta(days=1)}]
)
def test_a_schedule_that_is_off_is_not_late(off):
    row = schedule(last_run_at=NOON - timedelta(days=2), **HOURLY)
    PeriodicTask.objects.filter(pk=row.pk).update(**off)
    with time_machine.travel(NOON, tick=False):
        assert list(promises()["No schedule is late."]()) == []


def test_a_schedule_of_one_moment_runs_then_and_never_again():
    PeriodicTask.objects.all().delete()
    moment = ClockedSchedule.objects.create(clocked_time=NOON - timedelta(seconds=5))
    PeriodicTask.objects.create(
        name="often", task="tests.make_collection", args='["scheduled"]', clocked=moment, one_off=True
    )
    with time_machine.travel(NOON, tick=False):
        beat()
        beat()
    assert len(due_times()) == 1


def at_sunrise(*, last_run_at, catch_up="all", latitude=51, event="sunrise"):
    PeriodicTask.objects.all().delete()
    sun = SolarSchedule.objects.create(event=event, latitude=latitude, longitude=0)
    row = PeriodicTask.objects.create(
        name="often", task="tests.make_collection", args='["scheduled"]', solar=sun, last_run_at=last_run_at
    )
    SchedulePolicy.objects.create(schedule=row, catch_up=catch_up)
    return row


def without_ephem(monkeypatch):
    monkeypatch.setitem(sys.modules, "ephem", None)


def test_without_its_package_a_solar_schedule_is_refused_with_a_word_and_the_others_run(caplog, monkeypatch):
    without_ephem(monkeypatch)
    schedule(last_run_at=NOON - timedelta(hours=3), **HOURLY)
    sunset = SolarSchedule.objects.create(event="sunset", latitude=51, longitude=0)
    PeriodicTask.objects.create(name="at sunset", task="tests.make_collection", solar=sunset)
    with time_machine.travel(NOON, tick=False):
        beat()
        assert len(list(promises()["No schedule is late."]())) == 0
    assert due_times() == hours(12)
    problem = "never runs: its due times cannot be computed without the package ephem: pip install 'celery[solar]'."
    assert f"The schedule 'at sunset' {problem}" in caplog.messages


@pytest.mark.skipif(find_spec("ephem") is None, reason="solar schedules need ephem: pip install 'celery[solar]'")
class TestSolarSchedules:
    def test_each_sunrise_runs_once_whenever_a_beat_looks(self):
        at_sunrise(last_run_at=NOON - timedelta(days=2))
        for minute in (0, 7, 23, 1_440):
            PeriodicTask.objects.update(last_run_at=NOON - timedelta(days=2) + timedelta(minutes=minute))
            with time_machine.travel(NOON, tick=False):
                beat()
        assert due_times() == ["2030-03-03T06:40:19+00:00", "2030-03-04T06:38:10+00:00"]

    def test_what_is_due_next_is_the_next_sunrise(self):
        row = at_sunrise(last_run_at=NOON)
        with time_machine.travel(NOON, tick=False):
            assert f"{next_due(row):%F %T}" == "2030-03-05 06:36:01"
            assert make_beat().tick() > 0
        assert due_times() == []

    def test_while_the_sun_does_not_rise_nothing_runs(self):
        winter = datetime(2030, 12, 20, tzinfo=UTC)
        row = at_sunrise(last_run_at=winter, latitude=70)
        with time_machine.travel(winter + timedelta(days=10), tick=False):
            beat()
            assert due_times() == []
            assert f"{next_due(row):%F}" == "2031-01-17"

    def test_one_that_never_comes_is_named(self, caplog):
        at_sunrise(last_run_at=NOON, latitude=90)
        with time_machine.travel(NOON, tick=False):
            beat()
        assert "The schedule 'often' never runs: its next due time is too far ahead." in caplog.messages


def test_the_admin_offers_no_solar_schedules():
    client = browser_of(make_manager())
    page = client.get(reverse("admin:django_celery_beat_periodictask_add")).content.decode()
    assert 'name="crontab"' in page
    assert 'name="solar"' not in page
    assert client.get("/admin/django_celery_beat/solarschedule/").status_code == 404


# --- What is seeded ---------------------------------------------------------------------


def test_every_schedule_is_a_durable_task_of_the_scheduled_queue_and_editable_in_the_admin():
    seed()
    seed()
    import_tasks()
    rows = list(PeriodicTask.objects.exclude(name="Prune the ledger"))
    assert len(rows) == 8
    for row in rows:
        assert app.tasks[row.task].default_queue == "scheduled", row.task
    client = browser_of(make_manager())
    page = client.get(reverse("admin:django_celery_beat_periodictask_change", args=[rows[0].pk]))
    assert 'name="policy-0-catch_up"' in page.content.decode()


def test_the_seeded_schedules_run_their_tasks():
    seed()
    make_manager()
    PeriodicTask.objects.update(last_run_at=timezone.now() - timedelta(days=1, hours=1))
    beat(turns=12)
    drain()
    states = dict(DurableTask.objects.filter(unique_key__startswith="beat:").values_list("name", "status"))
    assert set(states) == set(PeriodicTask.objects.exclude(policy__catch_up="skip").values_list("task", flat=True))
    assert set(states.values()) == {"succeeded"}


def test_missed_days_have_their_reports_each():
    seed()
    manager = make_manager()
    with time_machine.travel(NOON, tick=False):
        PeriodicTask.objects.exclude(name="Daily sales report").delete()
        PeriodicTask.objects.update(last_run_at=NOON - timedelta(days=3))
        beat()
        drain()
    reports = EmailDelivery.objects.filter(kind="sales_report", user=manager, status="sent")
    assert sorted(reports.values_list("reference", flat=True)) == ["2030-03-01", "2030-03-02", "2030-03-03"]


# --- What the tasks do -------------------------------------------------------------------


def run(task, *args):
    task.delay(*args)
    drain()


def test_the_sweep_tells_what_is_low_whatever_took_it_there_and_once_a_day():
    from notifications.tasks import sweep_low_stock

    manager = make_manager()
    make_product(sku="PLENTY", stock=10, low_stock_threshold=10)
    make_product(sku="OFF", stock=0)
    low = make_product(sku="LOW", stock=10, low_stock_threshold=10)
    Stock.objects.filter(product=low).update(on_hand=9)
    make_product(sku="NONE", stock=None, low_stock_threshold=1)
    run(sweep_low_stock)
    run(sweep_low_stock)
    [note] = Notification.objects.filter(user=manager)
    assert note.message == "2 products are below their thresholds: LOW, NONE"


def test_old_carts_are_dropped_and_young_ones_stay():
    from store.tasks import drop_abandoned_carts

    old, young = make_cart({make_product(): 1}), make_cart({make_product(): 1})
    Cart.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=31))
    run(drop_abandoned_carts)
    assert list(Cart.objects.all()) == [young]


def test_old_keys_are_pruned_and_young_ones_stay():
    from store.tasks import prune_idempotency_keys

    buyer = make_customer()
    for key in ("old", "young"):
        check_out(api(buyer), make_cart({make_product(): 1}, buyer), key=key)
    IdempotencyKey.objects.filter(key="old").update(created_at=timezone.now() - timedelta(hours=25))
    run(prune_idempotency_keys)
    assert list(IdempotencyKey.objects.values_list("key", flat=True)) == ["young"]


def test_old_mails_are_pruned_but_for_customers_mails_about_orders():
    from email_app.tasks import prune_mails

    buyer, product = make_customer(), make_product()
    make_manager()
    for _ in range(2):
        check_out(api(buyer), make_cart({product: 1}, buyer))
    drain()
    EmailDelivery.objects.update(created_at=timezone.now() - timedelta(days=91))
    EmailDelivery.objects.filter(kind="welcome", user=buyer.user).update(created_at=timezone.now())
    run(prune_mails)
    kinds = sorted(EmailDelivery.objects.values_list("kind", flat=True))
    assert kinds == ["order_confirmation", "order_confirmation", "welcome"]


def test_read_notifications_are_pruned_and_unread_ones_stay():
    from notifications.tasks import prune_notifications

    buyer = make_customer()
    for read in (True, False):
        Notification.objects.create(user=buyer.user, kind="order_placed", message=str(read), read=read)
    Notification.objects.update(created=timezone.now() - timedelta(days=91))
    run(prune_notifications)
    assert list(Notification.objects.values_list("read", flat=True)) == [False]


def test_expired_sessions_are_cleared():
    from accounts.tasks import clear_sessions

    for days in (-1, 1):
        Session.objects.create(session_key=str(days), expire_date=timezone.now() + timedelta(days=days))
    run(clear_sessions)
    assert list(Session.objects.values_list("session_key", flat=True)) == ["1"]


def test_a_broken_promise_is_looked_at_again_before_the_managers_are_told():
    from operations.tasks import verify_promises

    manager, product = make_manager(), make_product()
    Stock.objects.filter(product=product).update(reserved=3)
    verify_promises.delay()
    drain()
    assert not Notification.objects.exists()
    for _ in range(2):
        DurableTask.objects.filter(status="pending").update(available_at=timezone.now() - timedelta(seconds=1))
        drain()
    [note] = Notification.objects.filter(user=manager)
    assert "The reserved stock of each product equals what its unsettled orders need." in note.message
    assert enqueued("core.tasks.verify_promises")[0].status == "succeeded"


def test_no_process_is_held_by_all_promises_at_once(monkeypatch):
    from celery_ledger.promises import promises
    from operations import tasks

    monkeypatch.setattr(tasks, "TURN", -1)
    manager, product = make_manager(), make_product()
    Stock.objects.filter(product=product).update(reserved=3)
    tasks.verify_promises.delay()
    for _ in range(3):
        drain(most_turns=2 * len(promises()))
        DurableTask.objects.filter(status="pending").update(available_at=timezone.now() - timedelta(seconds=1))
    assert len(enqueued("core.tasks.verify_promises")) == len(promises()) + 2
    assert Notification.objects.filter(user=manager, kind="promise_broken").count() == 1


def test_promises_that_are_kept_alarm_nobody():
    from operations.tasks import verify_promises

    make_manager()
    drain()
    run(verify_promises)
    assert enqueued("core.tasks.verify_promises")[0].attempts == 1
    assert not Notification.objects.exists()


# --- Schedules that never can run ---------------------------------------------------------


def poisoned(name, **changes):
    """Make a schedule as the admin does, and then change rows of it as the admin does not let one."""
    crontab = CrontabSchedule.objects.create(minute="0", hour="3", timezone="UTC")
    row = PeriodicTask.objects.create(name=name, task="tests.make_collection", args='["poison"]', crontab=crontab)
    for key, value in changes.items():
        if key == "timezone":
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE django_celery_beat_crontabschedule SET timezone = %s WHERE id = %s", [value, crontab.pk]
                )
        elif key in {"day_of_month", "month_of_year", "minute"}:
            CrontabSchedule.objects.filter(pk=crontab.pk).update(**{key: value})
        elif key == "every":
            interval = IntervalSchedule.objects.create(every=1, period="days")
            PeriodicTask.objects.filter(pk=row.pk).update(crontab=None, interval=interval)
            IntervalSchedule.objects.filter(pk=interval.pk).update(every=value)
        else:
            PeriodicTask.objects.filter(pk=row.pk).update(**{key: value})
    return row


NEVER = {
    "31 February": {"day_of_month": "31", "month_of_year": "2"},
    "a timezone that is gone": {"timezone": "Mars/Olympus"},
    "minute 99": {"minute": "99"},
    "a minute that is a word": {"minute": "noon"},
    "an interval of nothing": {"every": 0},
    "an interval of six million years": {"every": 2**31 - 1},
    "no times": {"crontab": None},
    "arguments that are not JSON": {"args": "[1,"},
    "arguments that are no array": {"args": '{"a": 1}'},
    "named arguments that are no object": {"kwargs": "[1]"},
}


@pytest.mark.fault("F86")
@pytest.mark.parametrize("changes", NEVER.values(), ids=NEVER.keys())
def test_f86_a_schedule_that_never_can_run_is_one_named_problem_and_all_else_goes_on(changes, settings):
    manager = make_manager()
    schedule(last_run_at=NOON - timedelta(hours=3), **HOURLY)
    row = poisoned("the poison", **changes)

    with time_machine.travel(NOON, tick=False):
        announce_late_schedules()
        [problem] = [found for found in watchdog.LOOKS["schedules"]() if "poison" in found.text]
        assert problem.text.startswith("'the poison' never runs: ")
        beat()
    assert due_times() == hours(12)
    relay = Relay(app, window=1, lease=60)
    relay._rounds = dict.fromkeys(relay._rounds, 0.0)
    relay.make_rounds()

    answer = api().get("/health/ready/")
    assert answer.status_code == 200
    assert "schedules" in answer.json()["failing"]
    client = Client(REMOTE_ADDR="127.0.0.1")
    assert 'celery_ledger_problems{part="schedules"} ' in client.get("/metrics").content.decode()
    client.force_login(manager)
    model = "admin:django_celery_beat_periodictask"
    assert "never: " in client.get(reverse(f"{model}_changelist")).content.decode()
    for kind in ("crontabschedule", "intervalschedule"):
        assert client.get(reverse(f"admin:django_celery_beat_{kind}_changelist")).status_code == 200
    for page in ("change", "delete"):
        assert client.get(reverse(f"{model}_{page}", args=[row.pk])).status_code == 200
    assert client.post(reverse(f"{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 302
    assert not PeriodicTask.objects.filter(name="the poison").exists()


@pytest.mark.fault("F86")
def test_f86_the_admin_refuses_times_that_never_come():
    client = browser_of(make_manager())
    page = client.post(
        reverse("admin:django_celery_beat_crontabschedule_add"),
        {"minute": "0", "hour": "3", "day_of_month": "31", "month_of_year": "2", "day_of_week": "*", "timezone": "UTC"},
    )
    assert "This schedule can never run: it is never due: there is no such day." in page.content.decode()
    page = client.post(
        reverse("admin:django_celery_beat_intervalschedule_add"), {"every": str(2**31 - 1), "period": "days"}
    )
    assert "This schedule can never run: " in page.content.decode()
    row = poisoned("the poison", day_of_month="31", month_of_year="2")
    page = client.post(
        reverse("admin:django_celery_beat_periodictask_change", args=[row.pk]),
        {
            "name": "renamed",
            "task": row.task,
            "enabled": "on",
            "crontab": row.crontab_id,
            "args": "[1]",
            "kwargs": "[]",
        },
    )
    assert "This schedule can never run: " in page.content.decode()
    assert "Enter a JSON object." in page.content.decode()
    assert PeriodicTask.objects.filter(name="the poison").exists()


@pytest.mark.fault("F86")
def test_f86_one_schedule_that_cannot_be_enqueued_is_said_once_and_stays_due_and_the_others_run(caplog):
    schedule(last_run_at=NOON - timedelta(hours=3), **HOURLY)
    poisoned("of no task", task="tests.nobody_has_this", last_run_at=NOON - timedelta(days=2))
    with time_machine.travel(NOON, tick=False):
        beat(turns=3)
        assert due_times() == hours(12)
        said = [message for message in caplog.messages if "'of no task' could not be enqueued" in message]
        assert len(said) == 1
        assert [name for name, _ in late_schedules()] == ["of no task"]


# --- The database goes --------------------------------------------------------------------


def lose_the_database(monkeypatch, after):
    """Have the database go after so many more statements, until the answer is called."""
    left = [after]

    def maybe(execute, sql, params, many, context):
        left[0] -= 1
        if left[0] < 0:
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, params, many, context)

    connection.execute_wrappers.append(maybe)
    monkeypatch.setattr(connection, "is_usable", lambda: False)
    monkeypatch.setattr(connection, "close", lambda: None)

    def come_back():
        connection.execute_wrappers.remove(maybe)
        monkeypatch.undo()

    return come_back


@pytest.mark.fault("F85")
@pytest.mark.parametrize("restarted", [False, True], ids=["the same beat", "another beat"])
@pytest.mark.parametrize("after", [0, 1, 2, 3, 4, 5, 6])
def test_f85_whatever_statement_the_database_goes_at_each_due_time_runs_once(monkeypatch, after, restarted):
    schedule(last_run_at=NOON - timedelta(minutes=10), catch_up="all", **HOURLY)
    scheduler = make_beat()
    with time_machine.travel(NOON, tick=False) as clock:
        come_back = lose_the_database(monkeypatch, after)
        for minutes in (0, 1, 60):  # It is away for an hour.
            clock.move_to(NOON + timedelta(minutes=minutes))
            scheduler.tick()
        come_back()
        if restarted:
            scheduler = make_beat()
        clock.move_to(NOON + timedelta(hours=2))
        for _ in range(3):
            scheduler.tick()
    assert due_times() == hours(12, 13, 14)


@pytest.mark.fault("F85")
def test_f85_a_clock_that_jumped_ahead_and_came_back_keeps_no_schedule_from_running():
    schedule(last_run_at=NOON + timedelta(days=365), **HOURLY)
    with time_machine.travel(NOON, tick=False) as clock:
        beat()
        clock.move_to(NOON + timedelta(hours=1))
        beat()
        clock.move_to(NOON + timedelta(hours=2))
        beat()
    assert due_times() == hours(13, 14)
