"""What the pruner deletes and keeps, and how it handles millions of rows."""

import time
import uuid
from datetime import timedelta
from io import StringIO

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_results.models import TaskResult

from celery_ledger import tasks
from celery_ledger.desk import dead_letters, pruner, turns
from celery_ledger.models import DurableTask, FailedAttempt, Forgone
from celery_ledger.promises import promises
from celery_ledger.testing import drain
from tests import probe
from tests.processes import best_of
from tests.shop import place_order

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status
WEEK = timedelta(days=7)
LONG_AGO = "2010-12-01T08:00Z"


def outbox(*arguments):
    out = StringIO()
    call_command("outbox", *arguments, stdout=out)
    return out.getvalue()


def ended(id, status=Status.SUCCEEDED, **columns):
    """Put a task that ended long ago into the ledger, under an id."""
    return DurableTask(
        id=id, name="tests.make_collection", queue="default", status=status, completed_at=LONG_AGO, **columns
    )


def of_its_time(number):
    """Return an id as the ledger makes them, of years ago."""
    return uuid.UUID(int=(0x0100_0000_0000_7000_8000 << 48) + number)


@pytest.fixture
def order():
    return place_order().id


class TestWhatIsForgone:
    @pytest.mark.fault("F96")
    @pytest.mark.parametrize(
        "name",
        [
            "analytics_app.tasks.record_sale",
            "email_app.tasks.send_order_confirmation",
            "notifications.tasks.announce_placed_order",
            "core.tasks.record_order_event",
            "store.tasks.update_inventory",
        ],
    )
    def test_what_was_discarded_and_pruned_is_no_broken_promise(self, order, name):
        task = DurableTask.objects.get(name=name)
        DurableTask.objects.filter(pk=task.pk).update(status=Status.DEAD, completed_at=LONG_AGO, last_error="KeyError")
        drain()
        assert dead_letters.discard([task.pk], reason="the till was on paper") == 1
        outbox("verify")
        DurableTask.objects.filter(pk=task.pk).update(id=of_its_time(1))
        assert pruner.prune(older_than=WEEK) == 1
        outbox("verify")
        forgone = Forgone.objects.get()
        assert (forgone.name, forgone.subject) == (name, f"store.order:{order}")
        assert "the till was on paper" in forgone.reason

    @pytest.mark.fault("F96")
    def test_neither_is_a_receiver_whose_redelivery_was(self, order):
        DurableTask.objects.filter(name="analytics_app.tasks.record_sale").update(
            id=of_its_time(1),
            name="celery_ledger.tasks.redeliver",
            kwargs={"dispatch_uid": "analytics_app.enqueue_sale"},
            status=Status.CANCELLED,
            completed_at=LONG_AGO,
        )
        drain()
        pruner.prune(older_than=WEEK)
        assert Forgone.objects.get().receiver == "analytics_app.enqueue_sale"
        assert list(promises()["Every order is recorded as one sale."]()) == []

    def test_what_nobody_gave_up_still_is_one(self, order):
        DurableTask.objects.filter(name="analytics_app.tasks.record_sale").delete()
        drain()
        assert len(list(promises()["Every order is recorded as one sale."]())) == 1

    def test_what_was_about_nothing_leaves_nothing_behind(self):
        DurableTask.objects.bulk_create([ended(of_its_time(1), Status.CANCELLED)])
        assert pruner.prune(older_than=WEEK) == 1
        assert not Forgone.objects.exists()


class TestWhatGoes:
    @pytest.mark.fault("F99")
    def test_ids_that_callers_chose_go_too(self):
        DurableTask.objects.bulk_create(ended(uuid.UUID(int=(0xF0 << 120) + number, version=4)) for number in range(5))
        assert pruner.prune(older_than=WEEK) == 5

    @pytest.mark.fault("F99")
    def test_attempts_are_not_counted_as_tasks(self):
        DurableTask.objects.bulk_create([ended(of_its_time(1))])
        for number in (1, 2, 3):
            FailedAttempt.objects.create(task_id=of_its_time(1), number=number, error="OSError")
        TaskResult.objects.create(task_id=str(of_its_time(1)))
        assert outbox("prune") == "1 task deleted.\n"
        assert not FailedAttempt.objects.exists()
        assert not TaskResult.objects.exists()

    def test_what_ended_lately_or_has_not_ended_stays(self):
        kept = [
            ended(of_its_time(1), Status.DEAD),
            ended(of_its_time(2), Status.PENDING),
            ended(uuid.UUID(int=(0xF0 << 120) + 1, version=4), Status.DEAD),
        ]
        DurableTask.objects.bulk_create(kept)
        probe.make_collection.delay("a")
        drain()
        DurableTask.objects.bulk_create([ended(of_its_time(3))])
        DurableTask.objects.filter(id=of_its_time(3)).update(completed_at=timezone.now())
        assert outbox("prune") == "0 tasks deleted.\n"
        assert DurableTask.objects.count() == 5


class TestMany:
    @pytest.mark.fault("F99")
    def test_a_run_ends_before_its_time_limit_and_is_carried_on(self, monkeypatch):
        monkeypatch.setattr(turns, "TURN", -1)
        monkeypatch.setattr(pruner, "MOST", 50)
        monkeypatch.setattr(pruner, "FIRST", 50)
        DurableTask.objects.bulk_create(ended(of_its_time(number)) for number in range(175))
        assert tasks.prune.run() == 50
        assert DurableTask.objects.filter(name="celery_ledger.tasks.prune", status=Status.PENDING).count() == 1
        drain()
        assert not DurableTask.objects.filter(name="tests.make_collection").exists()
        assert not DurableTask.objects.exclude(status=Status.SUCCEEDED).exists()

    @pytest.mark.fault("F99")
    @pytest.mark.postgresql
    def test_no_transaction_holds_its_locks_for_long(self):
        assert best_of(self.median_seconds_of_a_portion, below=0.05) < 0.05

    def median_seconds_of_a_portion(self) -> float:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO celery_ledger_durabletask (id, name, queue, status, args, kwargs, attempts, completed_at)
                SELECT ('01000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'tests.make_collection',
                       'default', 'succeeded', '["shelf"]', '{}', 1, now() - interval '30 days'
                FROM generate_series(1, 40000) AS n
                """
            )
            cursor.execute("ANALYZE celery_ledger_durabletask")
        times, pruned, begun = [], 0, time.monotonic()
        for count in pruner.portions(older_than=WEEK):
            times.append(time.monotonic() - begun)
            pruned += count
            begun = time.monotonic()
        assert pruned == 40_000
        print(f"{len(times)} portions, median {sorted(times)[len(times) // 2]:.3f} s, longest {max(times):.3f} s")
        return sorted(times)[len(times) // 2]

    @pytest.mark.fault("F121")
    @pytest.mark.postgresql
    def test_a_portion_is_one_statement_in_which_nobody_else_has_a_turn(self):
        DurableTask.objects.bulk_create(ended(of_its_time(number)) for number in range(3 * pruner.FIRST))
        with CaptureQueriesContext(connection) as queries:
            portions = list(pruner.portions(older_than=WEEK))
        assert sum(portions) == 3 * pruner.FIRST
        deleting = [query for query in queries if "DELETE" in query["sql"]]
        assert len(deleting) == len(portions) + 2  # One more for each range of ids finds it empty.
        assert len(queries) == 4 * len(deleting)  # It begins, says how it is planned, deletes, commits.
        assert not DurableTask.objects.exists()

    @pytest.mark.fault("F121")
    @pytest.mark.postgresql
    def test_what_somebody_holds_is_left_for_another_night(self):
        DurableTask.objects.bulk_create(ended(of_its_time(number)) for number in (1, 2, 3))
        with psycopg.connect(**connection.get_connection_params()) as somebody:
            somebody.execute("SELECT FROM celery_ledger_durabletask WHERE id = %s FOR UPDATE", [of_its_time(2)])
            assert pruner.prune(older_than=WEEK) == 2
        assert [task.id for task in DurableTask.objects.all()] == [of_its_time(2)]

    def test_portions_are_as_large_as_their_locks_allow(self):
        assert pruner._size_after(500, 0.2) == 50
        assert pruner._size_after(500, 0.01) == 500
        assert pruner._size_after(500, 0.001) == 1_000
        assert pruner._size_after(4_000, 0.001) == pruner.MOST
        assert pruner._size_after(10, 9.0) == pruner.FEWEST
