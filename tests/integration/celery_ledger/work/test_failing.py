"""Failed attempts, and rows whose worker is gone."""

import json
import uuid
from types import SimpleNamespace
from unittest import mock

import pytest
from celery.result import AsyncResult
from django.db import OperationalError, connection, transaction

from celery_ledger import backoff
from celery_ledger.desk import dead_letters
from celery_ledger.models import DurableTask
from celery_ledger.rows import ledger
from celery_ledger.testing import drain
from celery_ledger.work import consumer, failures, leaving, reception
from celery_ledger.work.request import LedgerRequest
from store.models import Collection
from tests import probe
from tests.by_hand import let_leases_end, make_due, publish, take, unlimited
from tests.shop import all_at_once

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status


class TestFailure:
    @pytest.mark.fault("F14")
    def test_a_failure_undoes_the_effect_and_comes_back_later(self):
        probe.failing["garden"] = RuntimeError("no garden")
        handle = probe.make_collection.delay("garden")
        assert take(probe.make_collection, publish()) == "0 succeeded, 1 failed, 0 passed over"
        task = DurableTask.objects.get()
        assert (task.status, task.attempts, task.last_error) == (Status.PENDING, 1, "RuntimeError: no garden")
        assert task.available_at > task.created_at
        assert AsyncResult(handle.id).state == "RETRY"
        assert not Collection.objects.exists()
        assert probe.seen == ["garden"]

        probe.failing.clear()
        make_due()
        drain()
        task.refresh_from_db()
        assert (task.status, task.attempts) == (Status.SUCCEEDED, 2)
        assert Collection.objects.count() == 1

    @pytest.mark.fault("F13")
    def test_the_gaps_between_attempts_grow(self):
        probe.failing["garden"] = RuntimeError("no garden")
        probe.make_collection.delay("garden")
        gaps = []
        for _ in range(5):
            make_due()
            drain()
            with connection.cursor() as cursor:
                cursor.execute("SELECT CURRENT_TIMESTAMP")
            task = DurableTask.objects.get()
            gaps.append((task.available_at - task.published_at).total_seconds())
        assert all(0.45 * 2**attempt <= gap <= 1.2 * 2**attempt + 1 for attempt, gap in enumerate(gaps))

    @pytest.mark.fault("F13")
    def test_used_up_attempts_end_as_a_dead_letter_that_a_replay_revives(self):
        handle = probe.give_up.delay("other")
        for _ in range(5):
            make_due()
            drain()
        task = DurableTask.objects.get()
        assert (task.status, task.attempts) == (Status.DEAD, 3)
        with pytest.raises(RuntimeError, match="other"):
            AsyncResult(handle.id).get(timeout=1)

        assert dead_letters.replay([task.id]) == 1
        assert dead_letters.replay([task.id]) == 0
        drain()
        task.refresh_from_db()
        assert (task.id, task.status, task.attempts) == (uuid.UUID(handle.id), Status.PENDING, 4)

    @pytest.mark.parametrize("kind", ["permanent", "division"])
    def test_an_error_that_can_never_succeed_is_dead_at_once(self, kind):
        probe.give_up.delay(kind)
        drain()
        task = DurableTask.objects.get()
        assert (task.status, task.attempts) == (Status.DEAD, 1)

    def test_a_task_may_ask_to_come_back_at_a_time(self):
        probe.come_back.delay(500)
        drain()
        task = DurableTask.objects.get()
        assert (task.status, task.last_error) == (Status.PENDING, "ValueError: not yet")
        assert 495 < (task.available_at - task.published_at).total_seconds() < 505

    def test_a_task_may_name_the_moment_at_which_it_comes_back(self):
        probe.come_back_at.delay("2099-12-01T08:00:00+00:00")
        drain()
        task = DurableTask.objects.get()
        assert (task.status, task.available_at.year) == (Status.PENDING, 2099)

    def test_a_failure_is_a_warning_and_a_dead_letter_an_error_that_is_told_once(self, caplog):
        probe.give_up.delay("other")
        dead = probe.give_up.delay("permanent")
        drain()
        warnings = " ".join(
            record.getMessage()
            for record in caplog.records
            if (record.name, record.levelname) == (failures.__name__, "WARNING")
        )
        assert "failed at attempt 1 and is due again in" in warnings
        assert "failed at attempt 1 and is dead" in warnings
        [error] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert (error.name, error.data["id"]) == ("celery.app.trace", dead.id)
        assert f"Task tests.give_up[{dead.id}] raised unexpected: PermanentError(" in error.getMessage()
        assert error.exc_info

    def test_a_body_knows_how_often_it_was_tried_before(self):
        probe.tell_retries.delay()
        for _ in range(3):
            make_due()
            drain()
        assert probe.seen == [0, 1, 2]

    @pytest.mark.parametrize(("jitter", "seconds"), [(True, 500), (False, 1)])
    def test_a_wait_is_spread_unless_the_task_says_otherwise(self, monkeypatch, jitter, seconds):
        monkeypatch.setattr(backoff, "jittered", lambda wait: 500.0)
        monkeypatch.setattr(probe.give_up, "retry_jitter", jitter)
        probe.give_up.delay("other")
        drain()
        task = DurableTask.objects.get()
        assert seconds <= (task.available_at - task.published_at).total_seconds() < seconds + 5

    def test_a_body_may_call_its_own_task_as_a_function(self):
        probe.count_down.delay(2)
        drain()
        assert probe.seen == [2, 1, 0]
        assert DurableTask.objects.get().status == Status.SUCCEEDED

    def test_a_moment_that_has_passed_is_now(self):
        probe.come_back_at.delay("2010-12-01T08:00:00+00:00")
        drain()
        task = DurableTask.objects.get()
        assert (task.status, task.attempts) == (Status.DEAD, probe.come_back_at.max_attempts)

    def test_a_task_that_was_tried_more_often_than_this_release_allows_is_dead_at_its_next_failure(self):
        probe.give_up.delay("other")
        DurableTask.objects.update(attempts=probe.give_up.max_attempts + 3)
        drain()
        assert DurableTask.objects.get().status == Status.DEAD

    def test_a_database_that_fails_before_any_row_is_taken_is_not_the_row_s_fault(self):
        probe.make_collection.delay("garden")
        ids = publish()
        with (
            mock.patch.object(ledger, "complete", side_effect=OperationalError("the connection is gone")),
            pytest.raises(OperationalError),
        ):
            take(probe.make_collection, ids)
        task = DurableTask.objects.get()
        assert (task.status, task.attempts, task.last_error) == (Status.PUBLISHED, 0, "")

    def test_what_a_failed_body_enqueued_is_undone(self):
        probe.failing["b"] = RuntimeError("no b")
        probe.enqueue_children.delay(["a", "b", object.__name__])
        drain()
        assert DurableTask.objects.filter(name="tests.enqueue_children", status=Status.SUCCEEDED).exists()


class TestLostWorkers:
    def test_a_lease_that_ends_brings_the_row_back_uncounted(self):
        probe.make_collection.delay("garden")
        publish()
        assert let_leases_end() == 1
        task = DurableTask.objects.get()
        assert (task.status, task.attempts, task.lapses) == (Status.PENDING, 0, 1)
        drain()
        assert probe.seen == ["garden"]

    def test_a_lease_that_runs_is_left_alone(self):
        probe.make_collection.delay("garden")
        publish()
        assert ledger.lapse_expired() == 0
        assert ledger.lapse_lost("default", older_than=5) == 0

    def test_a_published_row_that_an_empty_broker_lost_comes_back(self):
        probe.make_collection.delay("garden")
        publish()
        DurableTask.objects.update(published_at="2010-12-01T08:00Z")
        assert ledger.waiting_queues(older_than=5) == ["default"]
        assert ledger.lapse_lost("default", older_than=5) == 1

    def test_a_suspect_whose_process_dies_before_it_is_counted_is_counted_then(self):
        probe.make_collection.delay("lost")
        ids = publish()
        DurableTask.objects.update(lapses=ledger.SUSPECT_LAPSES)
        consumer.count_lost(probe.make_collection, ids, "signal 9")
        assert DurableTask.objects.values_list("status", "attempts").get() == (Status.PENDING, 1)

    def test_a_dead_process_counts_as_an_attempt_of_its_one_row(self):
        probe.make_collection.delay("garden")
        consumer.count_lost(probe.make_collection, publish(), "signal 9")
        task = DurableTask.objects.get()
        assert (task.status, task.attempts) == (Status.PENDING, 1)
        assert task.last_error == "WorkerDiedError: signal 9"

    def test_a_dead_process_counts_as_the_attempt_that_an_outside_effect_counted_already(self):
        probe.ring.delay("front door")
        ids = publish()
        ledger.start(uuid.UUID(ids[0]), lease=8, limit_of=unlimited)
        consumer.count_lost(probe.ring, ids, "signal 9")
        task = DurableTask.objects.get()
        assert (task.status, task.attempts, task.lease_until) == (Status.PENDING, 1, None)

    @pytest.mark.parametrize("task", [probe.make_collection, probe.ring], ids=["inside", "outside"])
    def test_a_dead_process_counts_no_attempt_of_a_row_that_was_published_again_since(self, task):
        task.delay("garden")
        ids = publish()
        if task is probe.ring:
            assert ledger.start(uuid.UUID(ids[0]), lease=8, limit_of=unlimited) is not None
        before = DurableTask.objects.values("status", "attempts", "lease_until").get()
        consumer.count_lost(task, ids, "signal 9", held_for=60)
        assert DurableTask.objects.values("status", "attempts", "lease_until").get() == before
        DurableTask.objects.update(published_at="2010-12-01T08:00Z")
        consumer.count_lost(task, ids, "signal 9", held_for=60)
        assert DurableTask.objects.values_list("status", "attempts").get() == (Status.PENDING, 1)

    @pytest.mark.parametrize("more", [0, 1])
    def test_a_suspect_whose_process_dies_is_not_counted_twice(self, more):
        probe.make_collection.delay("garden")
        DurableTask.objects.update(lapses=ledger.SUSPECT_LAPSES + more)
        ids = publish()
        assert ledger.count_attempt(uuid.UUID(ids[0]), limit_of=unlimited) is not None
        consumer.count_lost(probe.make_collection, ids, "signal 9")
        task = DurableTask.objects.get()
        assert (task.status, task.attempts) == (Status.PENDING, 1)

    @pytest.mark.parametrize(("lapses", "seen"), [(1, [["a", "b", "c"]]), (2, [["a", "c"], ["b"]])])
    def test_a_row_whose_message_vanished_twice_runs_apart_from_others_and_is_counted_before(self, lapses, seen):
        for title in "abc":
            probe.make_collections.delay(title)
        DurableTask.objects.filter(args=["b"]).update(lapses=lapses)
        assert take(probe.make_collections, publish()) == "3 succeeded, 0 failed, 0 passed over"
        assert [sorted(titles) for titles in probe.seen] == seen  # Ids of one millisecond are in no order.
        assert set(DurableTask.objects.values_list("status", "attempts")) == {(Status.SUCCEEDED, 1)}

    def test_rows_whose_process_died_under_a_batch_run_alone_from_then_on(self):
        for title in "ab":
            probe.make_collections.delay(title)
        consumer.count_lost(probe.make_collections, publish(), "signal 9")
        assert not DurableTask.objects.exclude(lapses=ledger.SUSPECT_LAPSES).exists()
        drain()
        assert sorted(probe.seen) == [["a"], ["b"]]
        assert set(DurableTask.objects.values_list("status", "attempts")) == {(Status.SUCCEEDED, 1)}

    @pytest.mark.fault("F12")
    def test_a_row_that_kills_every_worker_is_parked(self):
        probe.give_up.delay("other")
        for _ in range(ledger.SUSPECT_LAPSES):
            publish()
            let_leases_end()
        for _ in range(probe.give_up.max_attempts):
            assert ledger.count_attempt(uuid.UUID(publish()[0]), limit_of=unlimited) is not None
            let_leases_end()
        assert take(probe.give_up, publish()) == "0 succeeded, 1 failed, 0 passed over"
        task = DurableTask.objects.get()
        assert task.attempts == probe.give_up.max_attempts
        assert (task.status, task.last_error) == (Status.DEAD, "AttemptsUsedUpError: every worker that ran it died")

    def test_a_suspect_that_this_process_does_not_know_is_left_uncounted(self):
        probe.make_collection.delay("garden")
        DurableTask.objects.update(lapses=ledger.SUSPECT_LAPSES, name="tests.of_the_next_release")
        take(probe.make_collection, publish())
        task = DurableTask.objects.get()
        assert (task.status, task.attempts, task.lapses) == (Status.PENDING, 0, ledger.SUSPECT_LAPSES)

    @pytest.mark.postgresql
    def test_rows_that_their_dead_process_still_holds_are_waited_for_a_moment_and_no_longer(self, monkeypatch):
        def record():
            try:
                consumer.count_lost(probe.make_collection, ids, "signal 9")
            except OperationalError:
                return "given up"

        monkeypatch.setattr(consumer, "LOST_PATIENCE", 1)
        probe.make_collection.delay("garden")
        ids = publish()
        with transaction.atomic():
            ledger.complete([uuid.UUID(id) for id in ids])
            assert all_at_once([record]) == ["given up"]
            transaction.set_rollback(True)
        assert DurableTask.objects.get().attempts == 0

    def test_a_lost_process_that_cannot_be_recorded_does_not_stop_its_worker(self, caplog):
        lost = LedgerRequest.__new__(LedgerRequest)
        lost._args, lost._task, lost._request_dict = [["no id"]], probe.make_collection, {}
        lost._count_lost("signal 9")
        assert "its tasks come back when their lease ends" in caplog.text

    def test_rows_of_an_unknown_task_that_cannot_be_given_back_wait_for_their_lease(self, monkeypatch, caplog):
        def refuse(*call):
            raise OperationalError("the database is away")

        monkeypatch.setattr(leaving, "leave", refuse)
        worker = reception.Consumer.__new__(reception.Consumer)
        worker.connection_errors = ()
        message = SimpleNamespace(
            reject_log_error=lambda *_: None,
            headers={"task": "tests.of_the_next_release", "id": str(uuid.uuid4())},
            content_type="application/json",
            body=json.dumps([[[str(uuid.uuid4())]], {}, {}]),
        )
        worker.on_unknown_task({}, message, KeyError("tests.of_the_next_release"))
        assert "its rows come back when their lease ends" in caplog.text
