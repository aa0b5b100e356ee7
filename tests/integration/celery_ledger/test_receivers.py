"""Whatever a receiver does, the sender's work and other receivers' calls are kept, and the signal is resent to it."""

import uuid
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_ledger.ids import row_id
from celery_ledger.models import DurableTask
from celery_ledger.rows.outbox import collecting
from celery_ledger.testing import drain, enqueued
from store.models import Collection, Product
from tests import probe

pytestmark = pytest.mark.django_db(transaction=True)

KNOWN_ID = "01900000-0000-7000-8000-000000000001"
KNOWN_KEY = "known"


# --- What receivers do, step by step ------------------------------------------------------


def writes():
    Collection.objects.create(title=f"of a receiver {uuid.uuid4()}")


def raises():
    raise RuntimeError("a receiver's mistake")


def fails_before_any_query():
    Product(unit_price="bad").save()


def fails_in_a_block_without_savepoint():
    with transaction.atomic(savepoint=False):
        raise ZeroDivisionError


def swallows_a_failed_block():
    with suppress(ZeroDivisionError), transaction.atomic(savepoint=False):
        raise ZeroDivisionError


def swallows_an_sql_error():
    with suppress(Exception), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM no_such_table")


def breaks_sql():
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM no_such_table")


def breaks_a_constraint():
    writes()
    Collection.objects.create(title="garden")


def survives_a_broken_block():
    with suppress(Exception), transaction.atomic():
        breaks_a_constraint()


def leaves_a_block_open():
    transaction.atomic().__enter__()


def fails_after_commit():
    transaction.on_commit(raises)


class Circle(list):
    def __init__(self):
        self.append(self)


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


#: What ends a receiver though it raises nothing: on SQLite a failed statement spoils no transaction.
SPOILS = {swallows_a_failed_block, leaves_a_block_open}
STEPS = [
    writes,
    raises,
    fails_before_any_query,
    fails_in_a_block_without_savepoint,
    swallows_a_failed_block,
    swallows_an_sql_error,
    breaks_sql,
    breaks_a_constraint,
    survives_a_broken_block,
    leaves_a_block_open,
    fails_after_commit,
]

texts = st.text(st.characters(), max_size=8) | st.sampled_from(["\0", "\ud800", "\\u0000", "garden"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
) | st.sampled_from(
    [
        object(),
        {1, 2},
        b"bytes",
        Decimal("1.5"),
        datetime(2030, 1, 1, tzinfo=UTC),
        10**5000,
        Circle(),
        deep(300),
        deep(5000),
    ]
)
options = st.fixed_dictionaries(
    {},
    optional={
        "countdown": st.none() | st.floats() | st.integers() | st.just("soon"),
        "eta": st.none() | st.datetimes() | st.datetimes(timezones=st.timezones()) | st.just("2030-02-30"),
        "queue": st.sampled_from(["default", "email", "nowhere", ""]),
        "priority": st.none() | st.integers(-2, 11) | st.just("high"),
        "unique_key": st.none() | texts | st.sampled_from([KNOWN_KEY, "k" * 300, 7]),
        "task_id": st.none() | st.uuids().map(str) | st.sampled_from([KNOWN_ID, "no uuid"]),
        "link": st.none() | st.just([]),
        "expires": st.none() | st.integers(),
        "anything": st.none() | st.integers(),
    },
)
calls = st.tuples(st.lists(values, min_size=1, max_size=1) | st.lists(values, max_size=2), options)
steps = st.sampled_from(STEPS) | calls


class Receiver:
    """Does its steps, and remembers what it was promised."""

    def __init__(self, steps):
        self.steps = steps
        self.handles = []
        self.failed = False
        self.done = 0

    def __call__(self, sender, collection, **kwargs):
        self.handles = []
        self.failed = True
        for step in self.steps:
            if callable(step):
                step()
            else:
                args, options = step
                self.handles.append(probe.make_collection.apply_async(args, **options))
        self.failed = False
        self.done = self.steps.count(writes)

    @property
    def must_be_sent_again(self):
        swallowed = connection.vendor == "postgresql" and swallows_an_sql_error in self.steps
        return self.failed or swallowed or not SPOILS.isdisjoint(step for step in self.steps if callable(step))


@pytest.fixture
def connect():
    uids = []

    def connect(receiver):
        receiver.__module__ = __name__
        uids.append(f"tests.{len(uids)}")
        probe.collection_made.connect(receiver, dispatch_uid=uids[-1])
        return uids[-1]

    def disconnect():
        while uids:
            probe.collection_made.disconnect(dispatch_uid=uids.pop())

    connect.no_more = disconnect
    yield connect
    disconnect()


@pytest.mark.fault("F69")
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=st.lists(st.lists(steps, max_size=4), min_size=1, max_size=4))
def test_f69_no_receiver_harms_the_sender_or_another_receiver(connect, plans):
    DurableTask.objects.all().delete()
    Collection.objects.all().delete()
    probe.make_collection.apply_async(("known",), task_id=KNOWN_ID, unique_key=KNOWN_KEY)
    receivers = {connect(receiver): receiver for receiver in map(Receiver, plans)}
    try:
        with transaction.atomic():
            collection = Collection.objects.create(title="garden")
            probe.collection_made.send_robust(sender=Collection, collection=collection)
    finally:
        connect.no_more()

    assert Collection.objects.filter(title="garden").exists()
    again = {task.kwargs["dispatch_uid"] for task in enqueued("celery_ledger.tasks.redeliver")}
    assert again == {uid for uid, receiver in receivers.items() if receiver.must_be_sent_again}
    stand = [receiver for receiver in receivers.values() if not receiver.must_be_sent_again]
    promised = {KNOWN_ID} | {str(row_id(handle.id)) for receiver in stand for handle in receiver.handles}
    there = {str(id) for id in DurableTask.objects.filter(name="tests.make_collection").values_list("id", flat=True)}
    assert there == promised
    assert Collection.objects.filter(title__startswith="of a").count() == sum(receiver.done for receiver in stand)


# --- Each by itself ---------------------------------------------------------------------------


@pytest.mark.fault("F69")
@pytest.mark.parametrize(
    "bad",
    [
        raises,
        fails_before_any_query,
        fails_in_a_block_without_savepoint,
        swallows_a_failed_block,
        leaves_a_block_open,
        lambda: probe.make_collection.delay(object()),
        lambda: probe.make_collection.delay("\0"),
        lambda: probe.make_collection.delay("half a \ud83d"),
        lambda: probe.make_collection.delay(deep(5000)),
        lambda: probe.make_collection.apply_async(("a",), unique_key="k" * 256),
        lambda: probe.make_collection.apply_async(("a",), countdown=1e300),
        lambda: probe.make_collection.apply_async(("a",), countdown=float("nan")),
        lambda: probe.make_collection.apply_async(("a",), eta=datetime(9999, 12, 31, 23, tzinfo=UTC)),
        lambda: probe.make_collection.apply_async(("a",), task_id=KNOWN_ID),
        lambda: probe.make_collection.apply_async(("a",), task_id="i" * 256),
    ],
)
def test_f69_what_a_row_cannot_hold_is_the_mistake_of_the_receiver_that_called(connect, bad):
    probe.make_collection.apply_async(("known",), task_id=KNOWN_ID)
    connect(lambda **kwargs: probe.make_collection.delay("before"))
    failing = connect(lambda **kwargs: (probe.make_collection.delay("half done"), bad()))
    connect(lambda **kwargs: probe.make_collection.delay("after"))
    with transaction.atomic():
        collection = Collection.objects.create(title="garden")
        probe.collection_made.send_robust(sender=Collection, collection=collection)
    assert Collection.objects.filter(title="garden").exists()
    assert sorted(task.args[0] for task in enqueued("tests.make_collection")) == ["after", "before", "known"]
    assert [task.kwargs["dispatch_uid"] for task in enqueued("celery_ledger.tasks.redeliver")] == [failing]


@pytest.fixture
def refused_by_the_database():
    """Have the database refuse rows of one task, for a reason of its own that no look at a call can know."""
    if connection.vendor == "postgresql":
        begin = "ALTER TABLE celery_ledger_durabletask ADD CONSTRAINT of_this_test CHECK (name <> 'tests.ring')"
        end = "ALTER TABLE celery_ledger_durabletask DROP CONSTRAINT of_this_test"
    else:
        begin = """CREATE TRIGGER of_this_test BEFORE INSERT ON celery_ledger_durabletask WHEN new.name = 'tests.ring'
                   BEGIN SELECT raise(ABORT, 'not this one'); END"""
        end = "DROP TRIGGER of_this_test"
    with connection.cursor() as cursor:
        cursor.execute(begin)
    yield
    with connection.cursor() as cursor:
        cursor.execute(end)


@pytest.mark.fault("F74")
def test_f74_calls_that_the_database_refuses_are_the_matter_of_their_receiver_alone(connect, refused_by_the_database):
    connect(lambda **kwargs: probe.make_collection.delay("before"))
    refused = connect(lambda **kwargs: (probe.make_collection.delay("half done"), probe.ring.delay("bell")))
    connect(lambda **kwargs: probe.make_collection.delay("after"))
    with transaction.atomic():
        collection = Collection.objects.create(title="garden")
        probe.collection_made.send_robust(sender=Collection, collection=collection)
    assert Collection.objects.filter(title="garden").exists()
    assert sorted(task.args[0] for task in enqueued("tests.make_collection")) == ["after", "before"]
    [again] = enqueued("celery_ledger.tasks.redeliver")
    assert (again.kwargs["dispatch_uid"], again.subject) == (refused, f"store.collection:{collection.pk}")


def test_calls_of_nobody_but_the_sender_that_the_database_refuses_are_an_error(refused_by_the_database):
    with pytest.raises(DatabaseError), transaction.atomic(), collecting():
        probe.ring.delay("bell")
    assert not DurableTask.objects.exists()


def test_a_receiver_that_changes_what_it_is_given_is_sent_again_what_it_was_given(connect):
    heard = []
    connect(lambda words, **kwargs: (heard.append(list(words)), words.append(object()), len(heard) == 1 and raises()))
    with transaction.atomic():
        probe.collection_made.send_robust(sender=None, words=["a"])
    drain()
    assert heard == [["a"], ["a"]]


def test_what_a_failing_receiver_wanted_done_after_the_commit_is_not_done(connect):
    connect(lambda **kwargs: (transaction.on_commit(lambda: probe.seen.append("done")), raises()))
    with transaction.atomic():
        probe.collection_made.send_robust(sender=Collection, collection=Collection.objects.create(title="garden"))
    assert probe.seen == []


def test_an_error_after_the_commit_is_logged_and_makes_no_failure_of_what_was_committed(connect, caplog):
    connect(lambda **kwargs: (transaction.on_commit(raises), transaction.on_commit(lambda: probe.seen.append("done"))))
    with transaction.atomic():
        probe.collection_made.send_robust(sender=Collection, collection=Collection.objects.create(title="garden"))
    assert probe.seen == ["done"]
    assert "a receiver's mistake" in caplog.text


def test_a_signal_whose_words_no_database_keeps_is_sent_again_as_it_was(connect):
    heard = []
    connect(lambda **kwargs: (heard.append((kwargs["words"], kwargs["price"])), len(heard) == 1 and raises()))
    with transaction.atomic():
        probe.collection_made.send_robust(sender=None, words=["\0", "half a \ud83d"], price=Decimal("1.50"))
    drain()
    assert heard == [(["\0", "half a \ud83d"], Decimal("1.50"))] * 2


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "to be sent again"),
        (Collection(title="nowhere"), "is not saved"),
        (Circle(), "to be sent again"),
        ("x" * 2**20, "send ids"),
    ],
)
def test_a_signal_that_could_not_be_sent_again_is_refused_before_anybody_hears_of_it(connect, value, says):
    connect(lambda **kwargs: probe.seen.append("heard"))
    with pytest.raises((TypeError, ValueError), match=says), transaction.atomic():
        probe.collection_made.send_robust(sender=None, collection=value)
    assert probe.seen == []


def test_an_asynchronous_receiver_which_nobody_would_wait_for_is_refused():
    async def waits(**kwargs):
        raise AssertionError

    with pytest.raises(TypeError, match="asynchronous"):
        probe.collection_made.connect(waits, dispatch_uid="tests.waits")


def test_a_signal_is_not_sent_so_that_a_receiver_could_harm_its_sender(connect):
    connect(raises)
    for send in (probe.collection_made.send, async_to_sync(probe.collection_made.asend)):
        with pytest.raises(TypeError, match=r"send_robust\(\)"), transaction.atomic():
            send(sender=None)
    with pytest.raises(TypeError, match=r"send_robust\(\)"):
        async_to_sync(probe.collection_made.asend_robust)(sender=None)
