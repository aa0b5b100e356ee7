"""Ordinary tasks that ride together: one transaction, but separate contexts, failures and conflicts."""

import json
import threading
import time
import uuid
from datetime import timedelta
from io import StringIO
from unittest import mock

import pytest
from celery import signals
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from celery_ledger import conf
from celery_ledger.context import Carrier, carried_by, working_on
from celery_ledger.models import DurableTask, FailedAttempt, Pace
from celery_ledger.relay.bundle import MIXED_TASK, bundle
from celery_ledger.rows import ledger, paces
from celery_ledger.rows.outbox import collecting
from celery_ledger.testing import drain
from celery_ledger.watch.metrics import rides
from celery_ledger.work import consumer, slices
from store.models import Collection
from tests import probe
from tests.by_hand import let_leases_end, publish, take
from tests.processes import wait_until
from worker.celery import app
from worker.task import Task

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status


@pytest.fixture(autouse=True)
def fresh_probe():
    probe.seen.clear()
    probe.failing.clear()
    yield
    probe.seen.clear()
    probe.failing.clear()


@pytest.fixture
def unhurried(settings):
    """Slices that a busy machine does not cut."""
    settings.LEDGER_SLICE = 60_000


def enqueue(task, *titles: str) -> list[str]:
    with collecting():
        return [task.delay(title).id for title in titles]


def shelves(count: int) -> list[str]:
    return [f"shelf {number:02}" for number in range(count)]


def titles() -> set[str]:
    return set(Collection.objects.values_list("title", flat=True))


def in_order() -> list[str]:
    """Return what rows are about in the order of their ids; those of one millisecond have none of their own."""
    return [args[0] for args in DurableTask.objects.order_by("id").values_list("args", flat=True)]


def outbox(*arguments: str) -> str:
    out = StringIO()
    call_command("outbox", *arguments, stdout=out)
    return out.getvalue()


def statuses() -> dict[str, int]:
    return {
        status: DurableTask.objects.filter(status=status).count()
        for status in DurableTask.objects.values_list("status", flat=True)
    }


@pytest.mark.usefixtures("unhurried")
class TestTogether:
    def test_rows_of_a_message_share_one_transaction(self, monkeypatch):
        original, transactions = slices._ride, []

        def ride(*arguments):
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SELECT txid_current()")
                    transactions.append(cursor.fetchone())
            return original(*arguments)

        monkeypatch.setattr(slices, "_ride", ride)
        enqueue(probe.make_collection, *shelves(50))
        assert "50 succeeded" in take(probe.make_collection, publish())
        noted = paces._noted["tests.make_collection"]
        assert (noted.slices, noted.slice_rows, noted.bodies) == (1, 50, 50)
        assert len(titles()) == 50
        if connection.vendor == "postgresql":
            assert len(transactions) == 50
            assert len(set(transactions)) == 1

    def test_each_rider_has_its_own_request_hooks_signals_and_story(self):
        told = []

        def note(signal):
            def receive(sender=None, task_id=None, **_):
                told.append((signal, task_id or sender.request.id))

            return receive

        receivers = {name: note(name) for name in ("task_prerun", "task_success", "task_postrun")}
        ids = []
        with collecting():
            for number in range(50):
                with working_on(request_id=f"request {number}", subject=f"tests.thing:{number}"):
                    ids.append(probe.ride_aware.apply_async([f"shelf {number}"], priority=number % 10).id)
        for name, receiver in receivers.items():
            getattr(signals, name).connect(receiver, weak=False)
        try:
            take(probe.ride_aware, publish())
        finally:
            for name, receiver in receivers.items():
                getattr(signals, name).disconnect(receiver)
        for number, id in enumerate(ids):
            mine = [entry for entry in probe.seen if entry[1] == id]
            title = f"shelf {number}"
            body = ("body", id, title, ([title], 0, number % 10), f"request {number}", f"tests.thing:{number}")
            assert mine == [
                ("before", id, title),
                body,
                ("success", id, f"{title} made"),
                ("after", id, "SUCCESS"),
            ]
            assert [name for name, told_id in told if told_id == id] == ["task_prerun", "task_success", "task_postrun"]

    def test_what_riders_call_and_leave_for_after_the_commit_is_theirs(self):
        probe.failing["shelf 01"] = ValueError("a mistake")
        enqueue(probe.ride_and_call, *shelves(3))
        take(probe.ride_and_call, publish())
        assert sorted(entry for entry in probe.seen if entry[0] == "committed") == [
            ("committed", "shelf 00"),
            ("committed", "shelf 02"),
        ]
        called = DurableTask.objects.filter(name="tests.make_collection")
        assert sorted(args[0] for args in called.values_list("args", flat=True)) == [
            "because of shelf 00",
            "because of shelf 02",
        ]

    def test_they_run_by_priority(self):
        with collecting():
            for number in range(10):
                probe.make_collection.apply_async([f"shelf {number}"], priority=9 - number)
        drain()
        assert probe.seen == [f"shelf {number}" for number in reversed(range(10))]


@pytest.mark.usefixtures("unhurried")
class TestFailing:
    @pytest.mark.parametrize("position", [0, 1, 4])
    def test_a_body_that_fails_takes_only_itself_away(self, position):
        enqueue(probe.make_collection, *shelves(5))
        all = in_order()
        bad = all[position]
        probe.failing[bad] = ValueError("a mistake")
        assert "4 succeeded, 1 failed, 0 passed over" in take(probe.make_collection, publish())
        assert probe.seen == all
        assert titles() == set(all) - {bad}
        failed = DurableTask.objects.exclude(status=Status.SUCCEEDED).get()
        assert (failed.status, failed.attempts, failed.args, failed.last_error) == (
            Status.PENDING,
            1,
            [bad],
            "ValueError: a mistake",
        )
        assert FailedAttempt.objects.get().number == 1
        assert paces._noted["tests.make_collection"].slices == 1

    def test_all_of_them_may_fail(self):
        probe.failing |= {title: ValueError("a mistake") for title in shelves(3)}
        enqueue(probe.make_collection, *shelves(3))
        assert "0 succeeded, 3 failed" in take(probe.make_collection, publish())
        assert (titles(), statuses()) == (set(), {Status.PENDING: 3})

    @pytest.mark.postgresql
    def test_one_that_swallows_an_error_of_the_database_is_judged_alone(self):
        enqueue(probe.ride_swallowing, "spoiled")
        enqueue(probe.make_collection, *shelves(3))
        assert "3 succeeded, 1 failed" in take(probe.make_collection, publish())
        assert titles() == set(shelves(3))
        assert "aborted" in DurableTask.objects.get(name="tests.ride_swallowing").last_error

    def test_a_repeatable_one_has_its_company_run_again(self):
        enqueue(probe.ride_repeatably, *shelves(4))
        first, bad, *others = in_order()
        probe.failing[bad] = ValueError("a mistake")
        assert "3 succeeded, 1 failed" in take(probe.ride_repeatably, publish())
        assert probe.seen == [first, bad, first, *others, bad]
        assert titles() == {first, *others}

    def test_a_row_of_a_task_that_nobody_knows_is_left_to_others(self):
        enqueue(probe.make_collection, "new", *shelves(2))
        DurableTask.objects.filter(args=["new"]).update(name="tests.of_the_next_release")
        assert "2 succeeded" in take(probe.make_collection, publish())
        assert DurableTask.objects.get(name="tests.of_the_next_release").attempts == 0

    def test_a_time_limit_is_each_one_s_own(self):
        with collecting():
            for title, seconds in (("quick", 0), ("slow", 5), ("quick too", 0)):
                probe.ride_within_limits.delay(title, seconds)
        [message] = bundle(app, ledger.claim({"default": 9}, lease=60, limit=9), {}, {"default": 1})
        assert message.name == MIXED_TASK
        app.loader.import_default_modules()
        assert "2 succeeded, 1 failed" in take(app.tasks[MIXED_TASK], [str(id) for id in message.ids])
        assert titles() == {"quick", "quick too"}
        assert "SoftTimeLimitExceeded" in DurableTask.objects.get(status=Status.PENDING).last_error


class TestTime:
    def test_a_slice_is_cut_by_its_time_and_what_was_not_begun_goes_to_whoever_is_free(self, settings):
        settings.LEDGER_SLICE = 10
        with collecting():
            for title in shelves(8):
                probe.ride_slowly.delay(title, 0.025)
        took = take(probe.ride_slowly, publish())
        assert "0 failed" in took
        ran = len(titles())
        assert 1 <= ran <= 2
        assert statuses() == {Status.SUCCEEDED: ran, Status.PENDING: 8 - ran}
        assert not DurableTask.objects.filter(status=Status.PENDING, attempts__gt=0).exists()
        assert not DurableTask.objects.filter(status=Status.PENDING, completed_at__isnull=False).exists()
        drain()
        assert titles() == set(shelves(8))

    @pytest.mark.postgresql
    @pytest.mark.usefixtures("unhurried")
    @pytest.mark.parametrize(("is_known", "waiting"), [(False, paces.Company.FEW), (True, 1)])
    def test_what_is_behind_a_body_that_takes_long_goes_to_whoever_is_free(self, is_known, waiting):
        if is_known:
            with mock.patch.object(slices, "LONGEST_WAIT", 0.0):
                probe.make_collection.delay("one that took long")
                probe.make_collection.delay("beside it")
                assert "2 succeeded" in take(probe.make_collection, publish())
            DurableTask.objects.all().delete()
            Collection.objects.all().delete()
        begun, goes_on = threading.Event(), threading.Event()

        def take_long(title):
            begun.set()
            goes_on.wait(30)

        with mock.patch.object(probe.make_collection, "run", side_effect=take_long):
            enqueue(probe.make_collection, *shelves(50))
            answers = []
            ids = publish()
            taking = threading.Thread(
                target=lambda: (answers.append(take(probe.make_collection, ids)), connection.close())
            )
            taking.start()
            assert begun.wait(30)
            behind = 50 - waiting
            wait_until("those behind it are given back", lambda: statuses().get(Status.PENDING) == behind, seconds=10)
        others = publish()
        assert take(probe.make_collection, others) == f"{behind} succeeded, 0 failed, 0 passed over"
        assert len(titles()) == behind
        goes_on.set()
        taking.join(30)
        assert answers == [f"{waiting} succeeded, 0 failed, {behind} passed over"]
        assert statuses() == {Status.SUCCEEDED: 50}


@pytest.mark.postgresql
@pytest.mark.usefixtures("unhurried")
class TestConflicts:
    def test_one_that_waits_for_a_lock_ends_the_slice_and_runs_alone(self):
        Collection.objects.create(title="hot")
        enqueue(probe.make_collection, *shelves(2))
        probe.heat.delay(["hot"])
        enqueue(probe.make_collection, "after")
        ids = publish()
        done = threading.Thread(target=lambda: (take(probe.make_collection, ids), connection.close()))
        with transaction.atomic():
            Collection.objects.select_for_update().get(title="hot")
            done.start()
            seconds = wait_until("the others are committed", lambda: titles() == {"hot", *shelves(2), "after"})
            assert DurableTask.objects.get(name="tests.heat").status == Status.PUBLISHED
        done.join(30)
        assert seconds < 30
        assert statuses() == {Status.SUCCEEDED: 4}
        assert paces._noted["tests.heat"].conflicts == 1
        assert slices.company.size("tests.make_collection", 50) == 2

    def test_two_that_take_the_same_rows_in_turn_do_not_wait_for_the_server_to_see_a_deadlock(self):
        for title in ("one", "other"):
            Collection.objects.create(title=title)
        ids = [[probe.heat.delay([title]).id for title in order] for order in (("one", "other"), ("other", "one"))]
        publish()
        slow = threading.Barrier(2, timeout=30)
        original = slices._ride

        def meet(task, row, *rest):
            result = original(task, row, *rest)
            if row.id in {uuid.UUID(first) for first, _ in ids}:
                slow.wait()
            return result

        slices._ride = meet
        answers = []
        try:
            threads = [
                threading.Thread(target=lambda own=own: (answers.append(take(probe.heat, own)), connection.close()))
                for own in ids
            ]
            began = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
        finally:
            slices._ride = original
        assert answers == ["2 succeeded, 0 failed, 0 passed over"] * 2
        assert time.monotonic() - began < 10
        assert 1 <= paces._noted["tests.heat"].conflicts <= 2


class TestBundles:
    def rows(self, *rows):
        return [
            ledger.Claimed(uuid.UUID(int=number), name, queue, lapses)
            for number, (name, queue, lapses) in enumerate(rows)
        ]

    def sizes(self, rows, known=(), free=None, crews=None):
        return [(message.name, len(message.ids)) for message in bundle(app, rows, dict(known), free, crews)]

    def quick(self, *names, seconds=0.001, riders=50.0):
        return {name: paces.Known(seconds, 100, riders) for name in names}

    def test_a_task_that_nobody_knows_begins_small(self):
        assert self.sizes(self.rows(*[("tests.make_collection", "default", 0)] * 10), free={"default": 1}) == [
            ("tests.make_collection", 4),
            ("tests.make_collection", 4),
            ("tests.make_collection", 2),
        ]

    def test_a_message_is_one_slice_of_work(self):
        rows = self.rows(*[("tests.make_collection", "default", 0)] * 60)
        for seconds, expected in ((0.001, [50, 10]), (0.002, [25, 25, 10]), (0.03, [1] * 60), (9, [1] * 60)):
            known = self.quick("tests.make_collection", seconds=seconds)
            assert [size for _, size in self.sizes(rows, known, {"default": 1})] == expected

    def test_little_that_is_due_is_spread_as_far_as_that_is_worth_it(self):
        known = self.quick("tests.make_collection")
        for rows, expected in ((3, [3]), (20, [5, 5, 5, 5]), (40, [10, 10, 10, 10])):
            due = self.rows(*[("tests.make_collection", "default", 0)] * rows)
            assert [size for _, size in self.sizes(due, known)] == expected

    def test_different_tasks_of_a_queue_share_messages_and_queues_do_not(self):
        names = ("tests.make_collection", "tests.heat")
        rows = self.rows(*[(name, queue, 0) for queue in ("default", "email") for name in names])
        assert self.sizes(rows, self.quick(*names)) == [(MIXED_TASK, 2), (MIXED_TASK, 2)]

    @pytest.mark.parametrize(
        "names",
        [("tests.make_collection", "tests.heat"), ("tests.make_collections", "tests.make_other_collections")],
    )
    def test_queues_that_the_same_workers_serve_share_messages(self, names):
        rows = self.rows(*zip(names, ("default", "email"), (0, 0), strict=True))
        same, others = {"default": "default", "email": "default"}, {"default": "default", "email": "email"}
        known = self.quick(*names)
        assert self.sizes(rows, known, crews=same) == [(MIXED_TASK, 2)]
        alone = [(name, 1) for name in names]
        for which, served in ((known, others), (known, None), ({}, same), (self.quick(*names, riders=1.0), same)):
            assert sorted(self.sizes(rows, which, crews=served)) == sorted(alone)
        slow = self.quick(*names, seconds=0.9 * conf.SLICE.value / 1000)
        assert sorted(self.sizes(rows, slow, crews=same)) == sorted(alone)

    def test_many_rows_of_batches_stay_in_their_queues(self):
        names = ("tests.make_collections", "tests.make_other_collections")
        rows = self.rows(*[(name, queue, 0) for name, queue in zip(names, ("default", "email"), strict=True)] * 31)
        crews = {"default": "default", "email": "default"}
        messages = list(bundle(app, rows, self.quick(*names, seconds=0.0001), None, crews))
        assert [(message.queue, message.name, len(message.ids)) for message in messages] == [
            ("default", names[0], 31),
            ("email", names[1], 31),
        ]

    def test_a_row_keeps_its_queue_in_a_message_of_another(self):
        with collecting():
            for queue in ("default", "email"):
                probe.make_collections.apply_async((queue,), queue=queue)
        ids = [str(row.id) for row in ledger.claim({"default": 9, "email": 9}, lease=60, limit=9)]
        app.loader.import_default_modules()
        seen = {}

        def look(task, **_):
            seen[task.request.args[0]] = task.request.delivery_info["routing_key"]

        with carried_by(Carrier("an id", "here", {"routing_key": "default"}, has_listeners=False)):
            signals.task_prerun.connect(look)
            try:
                assert "2 succeeded" in take(app.tasks[MIXED_TASK], ids)
            finally:
                signals.task_prerun.disconnect(look)
        assert seen == {"default": "default", "email": "email"}

    def test_a_shared_message_goes_where_there_is_room(self):
        names = ("tests.make_collections", "tests.make_other_collections")
        rows = self.rows(*zip(names, ("default", "email"), (0, 0), strict=True))
        for free in ({"default": 1, "email": 90}, {"default": 90, "email": 1}):
            [message] = bundle(app, rows, self.quick(*names), free, {"default": "default", "email": "default"})
            assert message.queue == max(free, key=free.get)

    def test_who_conflicts_rides_smaller_or_alone(self):
        rows = self.rows(*[("tests.heat", "default", 0)] * 6)
        assert [size for _, size in self.sizes(rows, self.quick("tests.heat", riders=3.0), {"default": 1})] == [3, 3]
        assert [size for _, size in self.sizes(rows, self.quick("tests.heat", riders=1.0))] == [1] * 6

    def test_some_never_ride(self, settings):
        known = self.quick("tests.make_collection", "tests.ride_alone", "tests.ring")
        for name, lapses in (("tests.ride_alone", 0), ("tests.make_collection", 2), ("tests.unknown", 0)):
            assert self.sizes(self.rows(*[(name, "default", lapses)] * 2), known) == [(name, 1)] * 2
        settings.LEDGER_RIDES = False
        assert (
            self.sizes(self.rows(*[("tests.make_collection", "default", 0)] * 2), known)
            == [("tests.make_collection", 1)] * 2
        )

    def test_what_is_outside_rides_only_if_it_is_known_to_be_quick(self):
        rows = self.rows(*[("tests.ring", "default", 0), ("tests.leave_mark", "default", 0)] * 3)
        assert [size for _, size in self.sizes(rows)] == [1] * 6
        known = self.quick("tests.ring") | self.quick("tests.leave_mark", seconds=2)
        assert self.sizes(rows, known) == [("tests.leave_mark", 1)] * 3 + [("tests.ring", 3)]


class TestOutside:
    def test_rows_of_a_message_run_one_after_the_other_each_finished_by_itself(self):
        probe.failing["bell 1"] = ValueError("cracked")
        enqueue(probe.ring, "bell 0", "bell 1", "bell 2")
        ids = publish()
        with CaptureQueriesContext(connection) as queries:
            assert take(probe.ring, ids) == "2 succeeded, 1 failed, 0 passed over"
        assert sorted(probe.seen) == ["bell 0", "bell 1", "bell 2"]
        assert DurableTask.objects.get(status=Status.PENDING).attempts == 1
        if connection.vendor == "postgresql":
            ends = [query for query in queries if "SET status = 'succeeded'" in query["sql"]]
            assert len(ends) == 2

    @pytest.mark.postgresql
    def test_the_end_of_a_row_starts_the_next_one_and_no_other(self, monkeypatch):
        enqueue(probe.ring, "bell 0", "bell 1", "bell 2")
        running = []

        def look(bell):
            running.append(list(DurableTask.objects.filter(status=Status.RUNNING).values_list("args", "attempts")))

        monkeypatch.setattr(probe.ring, "run", look)
        ids = publish()
        with CaptureQueriesContext(connection) as queries:
            assert take(probe.ring, ids) == "3 succeeded, 0 failed, 0 passed over"
        assert running == [[([bell], 1)] for bell in in_order()]
        written = [query for query in queries if "UPDATE celery_ledger_durabletask" in query["sql"]]
        assert len(written) == 4  # Each for itself it would be six.

    def test_a_body_that_takes_long_gives_back_what_is_behind_it(self, monkeypatch):
        enqueue(probe.ring, "slow", "next", "last")
        first, *behind = in_order()
        handed_on = []

        def wait(bell):
            probe.seen.append(bell)
            handed_on.append(
                wait_until(
                    "the others are given back",
                    lambda: DurableTask.objects.filter(status=Status.PENDING, attempts=0).count() == 2,
                )
            )

        monkeypatch.setattr(probe.ring, "run", wait)
        assert take(probe.ring, publish()) == "1 succeeded, 0 failed, 2 passed over"
        assert probe.seen == [first]
        monkeypatch.undo()
        drain()
        assert sorted(probe.seen) == sorted([first, *behind])

    def test_when_the_process_dies_only_what_had_begun_counts(self):
        enqueue(probe.ring, *shelves(3))
        ids = publish()
        ledger.start(uuid.UUID(ids[1]), lease=8, limit_of=lambda name: None)
        assert "1 failed" in str(consumer.count_lost(probe.ring, ids, "killed"))
        attempts = dict(DurableTask.objects.values_list("id", "attempts"))
        assert [attempts[uuid.UUID(id)] for id in ids] == [0, 1, 0]
        assert statuses() == {Status.PENDING: 3}
        assert not DurableTask.objects.filter(lapses__gt=0).exists()

    def test_a_row_that_was_taken_over_is_not_finished_by_its_first_worker(self, monkeypatch):
        def be_overtaken(bell):
            let_leases_end()
            publish()
            DurableTask.objects.update(status="running", attempts=2)

        probe.ring.delay("bell")
        monkeypatch.setattr(probe.ring, "run", be_overtaken)
        assert "0 succeeded" in take(probe.ring, publish())
        assert DurableTask.objects.get().status == Status.RUNNING


class TestPaces:
    def known(self):
        paces.flush_if_due(at_once=True)
        return paces.known()

    def test_a_batch_counts_as_its_rows(self):
        enqueue(probe.make_collections, *shelves(3))
        take(probe.make_collections, publish())
        assert self.known()["tests.make_collections"].bodies == 3

    def test_what_is_known_is_the_mean_of_the_latest(self):
        for seconds in [1.0] * 10:
            paces.note_bodies("tests.heat", 1, seconds)
        assert self.known()["tests.heat"].seconds == pytest.approx(1.0)
        for seconds in [0.001] * 500:
            paces.note_bodies("tests.heat", 1, seconds)
        assert self.known()["tests.heat"].seconds < 0.1
        assert self.known()["tests.heat"].bodies == 510

    def test_a_new_task_is_noted_at_once_and_then_less_and_less_often(self, monkeypatch):
        now = [100.0]
        monkeypatch.setattr(paces.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(paces, "_flushed", set())
        written = []
        for tick in range(200):
            now[0] = 100 + tick / 100
            paces.note_bodies("tests.heat", 1, 0.001)
            paces.flush_if_due()
            if not paces._noted:
                written.append(tick)
        assert written == [0, 2, 6, 14, 30, 62, 112, 162]
        paces.note_bodies("tests.cool", 1, 0.001)
        paces.flush_if_due()
        assert paces.known()["tests.cool"].bodies == 1

    def test_company_grows_by_steps_and_is_halved_by_a_conflict(self):
        sizes = []
        for _ in range(8):
            for _ in range(20):
                paces.note_rides(["tests.heat"])
            sizes.append(self.known()["tests.heat"].riders)
        assert sizes == [12, 24, 44, 50, 50, 50, 50, 50]
        paces.note_conflict("tests.heat")
        assert self.known()["tests.heat"].riders == 25
        paces.note_rides(["tests.heat"])
        assert self.known()["tests.heat"].riders == 26

    def test_who_meets_conflicts_in_the_smallest_company_is_alone_for_a_while(self):
        Pace.objects.create(name="tests.heat", riders=3)
        paces.note_conflict("tests.heat")
        assert self.known()["tests.heat"].riders == 1
        Pace.objects.update(alone_until=timezone.now() - timedelta(seconds=1))
        assert self.known()["tests.heat"].riders == 2

    def test_in_a_process_company_is_halved_at_once_and_grows_with_time(self):
        now = [0.0]
        company = paces.Company(clock=lambda: now[0])
        assert company.size("tests.heat", 50) == 50
        company.conflict("tests.heat", 50)
        company.success("tests.heat")
        assert company.size("tests.heat", 50) == 25
        for _ in range(4):
            now[0] += 0.3
            company.success("tests.heat")
        assert company.size("tests.heat", 50) == 29

    def test_a_database_that_cannot_take_it_fails_nobody(self, monkeypatch, caplog):
        from django.db import OperationalError

        def refuse(*_):
            raise OperationalError("away")

        monkeypatch.setattr(paces, "_write", refuse)
        paces.note_bodies("tests.heat", 1, 1)
        paces.flush_if_due(at_once=True)
        assert "could not be noted: away" in caplog.text


class TestShown:
    @pytest.fixture(autouse=True)
    def rode(self):
        for title in shelves(3):
            probe.make_collection.delay(title)
        take(probe.make_collection, publish())
        paces.note_conflict("tests.make_collection")
        paces.flush_if_due(at_once=True)

    def test_the_command_says_how_many_ride_and_what_that_takes(self):
        [ride] = json.loads(outbox("stats", "--tasks", "--json"))
        assert (ride["task"], ride["rows_a_message"], ride["riders"], ride["conflicts"]) == (
            "tests.make_collection",
            3,
            1 if ride["body_seconds"] >= 0.05 else 2,
            1,
        )
        assert 0 < ride["body_seconds"] < ride["seconds_a_message"]
        header, line = outbox("stats", "--tasks").splitlines()
        assert line.split()[0] == "tests.make_collection"
        assert header.split()[-1] == "conflicts"
        assert line.split()[-1] == "1"

    def test_so_do_the_metrics(self):
        samples = {
            sample.name: sample.value
            for family in rides()
            for sample in family.samples
            if sample.labels.get("task") == "tests.make_collection"
        }
        assert samples["celery_ledger_slice_tasks_total"] == 3
        assert samples["celery_ledger_slice_seconds_count"] == 1
        assert samples["celery_ledger_ride_conflicts_total"] == 1
        assert samples["celery_ledger_body_seconds"] > 0


class TestDeclaring:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"rides": "yes"}, "rides is True, False or None"),
            ({"repeatable": True, "transactional": False}, "repeatable is said of what runs in a transaction"),
        ],
    )
    def test_a_word_that_cannot_be_is_refused(self, options, words):
        with pytest.raises(ValueError, match=words):
            type("Wrong", (Task,), options)
