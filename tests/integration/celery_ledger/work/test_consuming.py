"""Messages: each row's effect happens once, whatever happens to messages and bodies."""

import logging
import threading
import uuid
from unittest import mock

import pytest
from celery.result import AsyncResult
from django.db import InterfaceError, OperationalError, ProgrammingError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django_celery_results.models import TaskResult

from celery_ledger.context import about_item, working_on
from celery_ledger.desk import dead_letters
from celery_ledger.models import DurableTask
from celery_ledger.rows import ledger, results
from celery_ledger.rows.outbox import collecting
from celery_ledger.tasks import run_mixed
from celery_ledger.testing import drain
from celery_ledger.work.keeper import LeaseKeeper
from store.models import Collection
from tests import probe
from tests.by_hand import let_leases_end, make_due, publish, take, unlimited
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status


class TestDelivery:
    def test_what_is_done_is_logged_with_its_id_where_logs_are_for_machines(self, caplog):
        handles = [probe.make_collections.delay(title) for title in ("garden", "kitchen")]
        with caplog.at_level(logging.DEBUG, logger="celery_ledger.done"):
            drain()
        assert {record.data["id"] for record in caplog.records if record.name == "celery_ledger.done"} == {
            handle.id for handle in handles
        }

    @pytest.mark.fault("F42")
    def test_a_message_delivered_twice_runs_its_row_once(self):
        probe.make_collection.delay("garden")
        ids = publish()
        assert "1 succeeded" in take(probe.make_collection, ids)
        assert "1 passed over" in take(probe.make_collection, ids)
        assert probe.seen == ["garden"]

    def test_a_forged_message_has_no_effect(self):
        assert "1 passed over" in take(probe.make_collection, [str(uuid.uuid4())])
        with pytest.raises(ValueError, match="one of its ids is none"):
            take(probe.make_collection, ["1; DROP TABLE"])
        assert probe.seen == []

    def test_a_message_that_names_another_task_than_its_row_does_not_run_the_wrong_body(self):
        garden, door = probe.make_collection.delay("garden"), probe.ring.delay("door")
        publish()
        assert "1 passed over" in take(probe.ring, [garden.id])
        assert "1 passed over" in take(run_mixed, [door.id])
        assert probe.seen == []
        make_due()
        drain()
        assert sorted(probe.seen) == ["door", "garden"]

    def test_a_mixed_message_has_no_body_of_its_own(self):
        with pytest.raises(AssertionError, match="runs the rows of a mixed message"):
            run_mixed.run()

    def test_tasks_that_this_process_does_not_know_wait_and_no_attempt_is_counted(self):
        for title in ("garden", "new", "kitchen"):
            probe.make_collections.delay(title)
        DurableTask.objects.filter(args=["new"]).update(name="tests.of_the_next_release")
        assert "2 succeeded, 0 failed, 1 passed over" in take(run_mixed, publish())
        waiting = DurableTask.objects.get(name="tests.of_the_next_release")
        assert (waiting.status, waiting.attempts, waiting.lapses) == (Status.PENDING, 0, 0)
        assert Collection.objects.count() == 2

    def test_a_task_may_wait_for_years(self):
        probe.make_collection.delay("garden")
        DurableTask.objects.update(lapses=ledger.MOST_LAPSES)
        publish()
        assert let_leases_end() == 1
        assert DurableTask.objects.get().lapses == ledger.MOST_LAPSES

    def test_a_message_for_a_row_that_is_not_due_has_no_effect(self):
        handle = probe.make_collection.apply_async(["garden"], countdown=60)
        assert "1 passed over" in take(probe.make_collection, [handle.id])
        assert DurableTask.objects.get().status == Status.PENDING

    def test_what_is_due_is_seen_in_its_own_queue_until_it_is_claimed(self):
        assert not ledger.any_due(["default", "email"])
        probe.make_collection.delay("garden")
        assert ledger.any_due(["default"])
        assert not ledger.any_due(["email"])
        publish()
        assert not ledger.any_due(["default"])

    def test_a_discarded_row_does_not_run(self):
        probe.give_up.delay("permanent")
        drain()
        task = DurableTask.objects.get()
        dead_letters.discard([task.id], reason="of no use")
        assert "1 passed over" in take(probe.give_up, [str(task.id)])
        assert DurableTask.objects.get().status == Status.CANCELLED

    @pytest.mark.fault("F15")
    def test_a_row_held_by_another_worker_is_passed_over(self):
        if connection.vendor != "postgresql":
            pytest.skip("SQLite has one writer: the other worker waits instead")
        probe.make_collection.delay("garden")
        ids = publish()
        answers = []

        def other_worker():
            answers.append(take(probe.make_collection, ids))
            connection.close()

        with transaction.atomic():
            ledger.complete([uuid.UUID(id) for id in ids])
            thread = threading.Thread(target=other_worker)
            thread.start()
            thread.join()
        assert answers == ["0 succeeded, 0 failed, 1 passed over"]

    def test_a_message_of_several_rows_delivered_twice_runs_them_once(self):
        for title in ("garden", "kitchen"):
            probe.make_collections.delay(title)
        ids = publish()
        assert "2 succeeded" in take(probe.make_collections, ids)
        assert "0 succeeded, 0 failed, 2 passed over" in take(probe.make_collections, ids)
        assert probe.seen == [["garden", "kitchen"]]

    def test_a_row_that_came_back_and_was_done_is_not_done_again_by_its_first_message(self):
        probe.make_collection.delay("garden")
        first = publish()
        let_leases_end()
        second = publish()
        take(probe.make_collection, second)
        take(probe.make_collection, first)
        assert probe.seen == ["garden"]


class TestBatches:
    def test_rows_of_one_task_run_as_one_batch(self):
        for number in range(30):
            probe.make_collections.delay(f"shelf {number:02}")
        drain()
        assert [len(batch) for batch in probe.seen] == [30]
        assert Collection.objects.count() == 30

    def test_a_batch_is_no_larger_than_the_task_allows(self):
        with collecting():
            for number in range(120):
                probe.make_collections.delay(f"shelf {number:03}")
        drain()
        assert sorted(len(batch) for batch in probe.seen) == [20, 50, 50]

    def test_one_bad_row_of_a_batch_fails_alone(self):
        probe.failing["shelf 07"] = RuntimeError("no such shelf")
        for number in range(20):
            probe.make_collections.delay(f"shelf {number:02}")
        drain()
        assert Collection.objects.count() == 19
        bad = DurableTask.objects.exclude(status=Status.SUCCEEDED).get()
        assert (bad.args, bad.status, bad.attempts) == (["shelf 07"], Status.PENDING, 1)
        assert bad.last_error == "RuntimeError: no such shelf"

    def test_few_rows_of_several_tasks_share_a_message_and_its_transaction(self):
        probe.make_collections.delay("a")
        probe.make_other_collections.delay("b")
        assert "2 succeeded" in take(run_mixed, publish())
        assert sorted(probe.seen) == [["a"], ["b"]]

    @pytest.mark.parametrize(
        ("subjects", "story"), [(["order:1", "order:1"], "order:1"), (["order:1", "order:2"], None)]
    )
    def test_what_a_batch_enqueues_belongs_to_the_story_that_its_rows_share(self, subjects, story):
        for number, subject in enumerate(subjects):
            with working_on(subject=subject, request_id=f"request of {subject}"):
                probe.enqueue_for_each.delay(f"shelf {number}")
        take(probe.enqueue_for_each, publish())
        enqueued = DurableTask.objects.filter(name="tests.make_collection")
        assert set(enqueued.values_list("subject", "request_id")) == {(story, f"request of {story}" if story else "")}

    @pytest.mark.fault("F80")
    def test_what_a_batch_enqueues_about_an_item_belongs_to_that_item_s_story(self):
        for number in range(3):
            with working_on(subject=f"order:{number}", request_id=f"request {number}"):
                probe.enqueue_about_each.delay(f"shelf {number}")
        take(probe.enqueue_about_each, publish())
        enqueued = DurableTask.objects.filter(name="tests.make_collection")
        assert sorted(enqueued.values_list("args__0", "subject", "request_id")) == [
            (f"shelf {number}", f"order:{number}", f"request {number}") for number in range(3)
        ]

    def test_outside_of_a_batch_an_item_changes_nothing(self):
        with working_on(subject="order:1", request_id="one"), about_item("shelf"):
            probe.make_collection.delay("shelf")
        assert DurableTask.objects.values_list("subject", "request_id").get() == ("order:1", "one")

    def test_a_batch_uses_a_constant_number_of_queries(self):
        counts = []
        for size in (2, 40):
            with collecting():
                for number in range(size):
                    probe.make_collections.delay(f"{size} {number}")
            ids = publish()
            with CaptureQueriesContext(connection) as queries:
                take(probe.make_collections, ids)
            counts.append(len(queries))
        assert counts[0] == counts[1]


class TestEffectsOutside:
    def test_the_body_runs_in_no_transaction_and_its_success_is_recorded(self):
        probe.ring.delay("front door")
        assert take(probe.ring, publish()) == "1 succeeded, 0 failed, 0 passed over"
        assert probe.seen == ["front door"]
        assert DurableTask.objects.get().status == Status.SUCCEEDED

    def test_a_failure_is_retried(self):
        probe.failing["front door"] = ConnectionError("nobody home")
        probe.ring.delay("front door")
        assert take(probe.ring, publish()) == "0 succeeded, 1 failed, 0 passed over"
        task = DurableTask.objects.get()
        assert (task.status, task.attempts, task.lease_until) == (Status.PENDING, 1, None)

    def test_a_second_message_finds_it_claimed(self):
        probe.ring.delay("front door")
        ids = publish()
        assert ledger.start(uuid.UUID(ids[0]), lease=8, limit_of=unlimited) is not None
        assert "1 passed over" in take(probe.ring, ids)

    def test_a_worker_that_lost_its_claim_can_record_nothing(self):
        probe.ring.delay("front door")
        slow = ledger.start(uuid.UUID(publish()[0]), lease=8, limit_of=unlimited)
        let_leases_end()
        quick = ledger.start(uuid.UUID(publish()[0]), lease=8, limit_of=unlimited)
        assert ledger.renew(quick, lease=8)
        assert not ledger.renew(slow, lease=8)
        assert not ledger.finish(slow)
        assert not ledger.fail(slow, "late", dead=True, delay=0, counted=True)
        assert ledger.finish(quick)
        assert DurableTask.objects.get().attempts == 2

    def test_a_failure_that_comes_after_its_claim_was_lost_is_not_recorded(self, monkeypatch):
        def lose_the_claim(bell):
            let_leases_end()
            raise ConnectionError("nobody home")

        probe.ring.delay("front door")
        monkeypatch.setattr(probe.ring, "run", lose_the_claim)
        take(probe.ring, publish())
        task = DurableTask.objects.get()
        assert (task.status, task.lapses, task.last_error) == (Status.PENDING, 1, "")

    def test_a_success_that_comes_after_another_worker_began_is_not_recorded(self, monkeypatch):
        def lose_the_claim(bell):
            let_leases_end()
            assert ledger.start(uuid.UUID(publish()[0]), lease=8, limit_of=unlimited) is not None

        probe.ring.delay("front door")
        monkeypatch.setattr(probe.ring, "run", lose_the_claim)
        assert take(probe.ring, publish()) == "0 succeeded, 0 failed, 1 passed over"
        assert DurableTask.objects.get().status == Status.RUNNING
        assert not TaskResult.objects.exists()

    @pytest.mark.fault("F78")
    @pytest.mark.parametrize("published", [False, True])
    def test_a_success_that_comes_after_its_lease_is_recorded_where_nobody_began_since(self, monkeypatch, published):
        def outlive_the_lease(bell):
            let_leases_end()
            if published:
                publish()

        probe.ring.delay("front door")
        monkeypatch.setattr(probe.ring, "run", outlive_the_lease)
        assert take(probe.ring, publish()) == "1 succeeded, 0 failed, 0 passed over"
        assert DurableTask.objects.get().status == Status.SUCCEEDED
        make_due()
        drain()
        assert DurableTask.objects.get().attempts == 1

    def test_a_claim_that_was_lost_is_not_renewed(self, caplog):
        probe.ring.delay("front door")
        slow = ledger.start(uuid.UUID(publish()[0]), lease=8, limit_of=unlimited)
        let_leases_end()
        quick = ledger.start(uuid.UUID(publish()[0]), lease=8, limit_of=unlimited)
        with caplog.at_level(logging.WARNING, logger="worker"), LeaseKeeper(slow, lease=0.03):
            wait_until("the claim is missed", lambda: "is lost: cancelled or taken over" in caplog.text, seconds=10)
        assert ledger.finish(quick)

    @pytest.mark.fault("F78")
    def test_a_claim_that_cannot_be_renewed_is_tried_again_and_the_body_goes_on(self, caplog):
        probe.ring.delay("front door")
        row = ledger.start(uuid.UUID(publish()[0]), lease=8, limit_of=unlimited)
        let_leases_end()
        away = [OperationalError("the database is away"), InterfaceError("the connection is closed"), RuntimeError()]

        def renew_in_the_end(row, *, lease):
            if away:
                raise away.pop()
            return renew(row, lease=60)

        renew = ledger.renew
        task = DurableTask.objects.filter(status=Status.RUNNING, lease_until__isnull=False)
        with mock.patch.object(ledger, "renew", renew_in_the_end), LeaseKeeper(row, lease=0.03):
            wait_until("it is renewed", task.exists, seconds=10)
        assert caplog.text.count("could not be renewed") == 3

    @pytest.mark.fault("F78")
    @pytest.mark.postgresql
    def test_a_success_is_recorded_over_a_connection_that_broke_while_the_body_ran(self, monkeypatch):
        probe.ring.delay("front door")
        monkeypatch.setattr(probe.ring, "run", lambda bell: connection.connection.close())
        assert take(probe.ring, publish()) == "1 succeeded, 0 failed, 0 passed over"
        assert DurableTask.objects.get().attempts == 1

    @pytest.mark.fault("F78")
    @pytest.mark.parametrize("task", [probe.ring, probe.make_collection])
    def test_a_result_that_is_no_json_is_kept_as_its_repr_and_the_task_is_done(self, monkeypatch, task):
        handle = task.delay("front door")
        monkeypatch.setattr(task, "run", lambda title: {"half": "\ud800", "none": object})
        assert take(task, publish()) == "1 succeeded, 0 failed, 0 passed over"
        assert DurableTask.objects.get().status == Status.SUCCEEDED
        assert AsyncResult(handle.id).get(timeout=1) == repr({"half": "\ud800", "none": object})

    @pytest.mark.fault("F78")
    def test_a_result_that_cannot_be_kept_at_all_undoes_no_effect(self, monkeypatch):
        def refuse(outcomes):
            raise ProgrammingError("there is no such table")

        probe.ring.delay("front door")
        monkeypatch.setattr(results, "record", refuse)
        assert take(probe.ring, publish()) == "1 succeeded, 0 failed, 0 passed over"
        assert DurableTask.objects.get().status == Status.SUCCEEDED

    @pytest.mark.fault("F78")
    def test_every_attempt_is_given_one_key_which_is_the_row_s_id(self):
        handle = probe.tell_key.delay()
        for _ in range(3):
            drain()
            make_due()
        assert probe.seen == [handle.id] * 3

    @pytest.mark.parametrize("more", [0, 1])
    def test_a_row_whose_every_worker_died_is_dead_without_another_run(self, more):
        probe.ring.apply_async(("front door",))
        DurableTask.objects.update(attempts=probe.ring.max_attempts + more)
        assert take(probe.ring, publish()) == "0 succeeded, 1 failed, 0 passed over"
        task = DurableTask.objects.get()
        assert (task.status, task.attempts) == (Status.DEAD, probe.ring.max_attempts + more)
        assert probe.seen == []
