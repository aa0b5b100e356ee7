"""How often the ledger's statements travel to PostgreSQL and back, and what it plans of them."""

import uuid
from contextlib import contextmanager

import pytest
from celery import chain, shared_task
from django.db import IntegrityError, connection, connections, transaction
from django.db.backends.postgresql.base import DatabaseWrapper, ServerBindingCursor
from psycopg import IsolationLevel

from celery_ledger import databases, trips
from celery_ledger.models import DurableTask
from celery_ledger.rows import ledger
from celery_ledger.testing import drain
from celery_ledger.work import consumer
from store.models import Product
from tests.by_hand import publish
from tests.shop import make_product
from tests.tcp_proxy import tcp_proxy
from worker.celery import app
from worker.task import Task

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite is in the same process"),
]


@shared_task(name="tests.renames", base=Task, ignore_result=True)
def renames(sku):
    Product.objects.filter(sku=sku).update(title="renamed")


@shared_task(name="tests.renames_outside", base=Task, transactional=False, ignore_result=True)
def renames_outside(sku):
    Product.objects.filter(sku=sku).update(title="renamed")


@shared_task(name="tests.locks_each", base=Task, ignore_result=True)
def locks_each():
    return [product.pk for product in Product.objects.select_for_update().iterator(chunk_size=1)]


@contextmanager
def connected(*, host=None, port=None, options=()):
    """Give this thread another connection to the tests' database, as a project may have configured it."""
    theirs = connections["default"]
    settings = {**theirs.settings_dict, "OPTIONS": {**theirs.settings_dict["OPTIONS"], **dict(options)}}
    if host is not None:
        settings |= {"HOST": host, "PORT": port}
    connections["default"] = other = DatabaseWrapper(settings, "default")
    try:
        yield other
    finally:
        other.close()
        connections["default"] = theirs


AS_DJANGO_DOES = {"server_side_binding": False, "prepare_threshold": None}


@pytest.mark.parametrize("task", [renames, renames_outside], ids=["inside", "outside"])
def test_a_task_of_one_statement_takes_three_round_trips(task):
    where = connection.settings_dict
    with (
        tcp_proxy(where["HOST"] or "127.0.0.1", int(where["PORT"] or 5432)) as proxy,
        connected(host="127.0.0.1", port=proxy.port),
    ):
        for _ in range(4):  # Statements are prepared, and what it measures is written twice a second.
            task.delay("tea")
            drain()
        call = task.delay("tea")
        publish()
        consumer.paces.flush_if_due(at_once=True)
        before = proxy.turns
        consumer.consume(app.tasks[task.name], [call.id])
        took = proxy.turns - before
    assert DurableTask.objects.get(id=call.id).status == "succeeded"
    assert took == 3


def test_the_next_step_of_a_chain_is_sent_along_with_the_commit():
    where = connection.settings_dict
    with (
        tcp_proxy(where["HOST"] or "127.0.0.1", int(where["PORT"] or 5432)) as proxy,
        connected(host="127.0.0.1", port=proxy.port),
    ):
        for _ in range(4):
            chain(renames.si("tea"), renames.si("tea")).delay()
            drain()
        DurableTask.objects.all().delete()
        chain(renames.si("tea"), renames.si("tea")).delay()
        [first] = publish()
        consumer.paces.flush_if_due(at_once=True)
        before = proxy.turns
        consumer.consume(renames, [first])
        took = proxy.turns - before
    assert sorted(DurableTask.objects.values_list("status", flat=True)) == ["pending", "succeeded"]
    assert took == 5  # To take it, its own, whether the chain was cancelled, the next step, and all that is written.


def prepared():
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        return [statement for (statement,) in cursor.fetchall()]


def test_a_direct_connection_that_is_used_often_plans_the_ledger_s_statements_once_and_no_others():
    with connected(options=AS_DJANGO_DOES):
        for _ in range(2 * trips.OFTEN):
            renames_outside.delay("tea")
            drain()
        of_the_ledger = prepared()
        assert any("FOR UPDATE SKIP LOCKED" in statement for statement in of_the_ledger)
        assert all("celery_ledger" in statement for statement in of_the_ledger)
        assert connection.connection.prepare_threshold is None
        assert not isinstance(connection.connection.cursor(), ServerBindingCursor)


@pytest.mark.parametrize("reason", ["a pooler", "its own settings"])
def test_behind_a_pooler_nothing_is_prepared(monkeypatch, reason):
    if reason == "a pooler":
        monkeypatch.setattr(trips, "is_pooled", lambda: True)
    with connected(options=AS_DJANGO_DOES) as other:
        other.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = reason == "its own settings"
        for _ in range(2 * trips.OFTEN):
            renames_outside.delay("tea")
            drain()
        assert prepared() == []


def test_a_rare_connection_is_not_asked_whether_it_is_pooled(monkeypatch):
    monkeypatch.setattr(trips, "is_pooled", None)
    with connected(options=AS_DJANGO_DOES):
        for _ in range(trips.OFTEN - 1):
            renames.delay("tea")


def in_database(name):
    with connected():
        return DurableTask.objects.filter(name=name).count()


def test_the_commit_that_is_sent_along_is_the_one_of_its_block():
    hooks = []
    with transaction.atomic():
        transaction.on_commit(lambda: hooks.append("called"))
        DurableTask.objects.create(name="whole", queue="tests", args=[], kwargs={})
        with trips.with_the_commit(), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert in_database("whole") == 1
        assert hooks == []
    assert hooks == ["called"]

    with transaction.atomic():
        with transaction.atomic():
            DurableTask.objects.create(name="inner", queue="tests", args=[], kwargs={})
            with trips.with_the_commit():
                pass
        assert in_database("inner") == 0
        transaction.set_rollback(True)
        with trips.with_the_commit():
            pass
    assert in_database("inner") == 0


def test_who_commits_by_hand_has_nothing_committed_by_others():
    transaction.set_autocommit(False)
    try:
        with transaction.atomic(), trips.with_the_commit():
            connection.cursor().execute("SELECT txid_current()")
        assert connection.connection.info.transaction_status != trips.IDLE
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)


def test_a_last_statement_that_fails_leaves_nothing():
    with pytest.raises(IntegrityError), transaction.atomic():
        row = DurableTask.objects.create(name="one", queue="tests", args=[], kwargs={})
        with trips.with_the_commit(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO celery_ledger_durabletask SELECT * FROM celery_ledger_durabletask")
    assert not DurableTask.objects.filter(id=row.id).exists()
    assert not connection.in_atomic_block
    assert connection.connection.info.transaction_status == trips.IDLE


def test_a_commit_that_is_refused_leaves_nothing():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE refusing (id integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
    try:
        with (
            pytest.raises(IntegrityError),
            transaction.atomic(),
            trips.with_the_commit(),
            connection.cursor() as cursor,
        ):
            cursor.execute("INSERT INTO refusing VALUES (1), (1)")
        assert connection.connection.info.transaction_status == trips.IDLE
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM refusing")
            assert cursor.fetchone() == (0,)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE refusing")


def test_the_begin_that_is_sent_along_keeps_the_isolation_level():
    with connected(options={"isolation_level": IsolationLevel.REPEATABLE_READ}):
        call = renames.delay("tea")
        publish()
        with transaction.atomic():
            assert ledger.complete([uuid.UUID(call.id)])
            with connection.cursor() as cursor:
                cursor.execute("SHOW transaction_isolation")
                assert cursor.fetchone() == ("repeatable read",)


def test_relays_and_workers_keep_their_connection_where_django_would_close_it_after_a_request():
    with connected() as other:
        other.settings_dict["CONN_MAX_AGE"] = 0
        other.ensure_connection()
        kept = other.connection
        for _ in range(3):
            renames.delay("tea")
            drain()
            databases.keep_connections()
        assert other.connection is kept

        with transaction.atomic():
            databases.keep_connections()
            assert not other.closed_in_transaction

        kept.close()
        other.errors_occurred = True  # As after a statement that it refused.
        databases.keep_connections()
        assert other.connection is None


@pytest.mark.parametrize("rows", [1, 3], ids=["alone", "riding"])
def test_a_body_opens_a_cursor_that_locks_as_in_any_transaction(rows):
    make_product()
    make_product()
    calls = [locks_each.delay() for _ in range(rows)]
    drain()
    assert [DurableTask.objects.get(id=call.id).status for call in calls] == rows * ["succeeded"]
    assert not connection.connection.closed
