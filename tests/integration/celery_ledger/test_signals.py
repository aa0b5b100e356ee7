"""A receiver can lose neither the sender's work nor its own reaction."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from celery_ledger.models import DurableTask
from celery_ledger.signals import DurableSignal
from celery_ledger.testing import drain, enqueued, loud_receivers
from store.models import Collection
from tests import probe

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def connected():
    """Connect receivers for one test."""
    uids = []

    def connect(*receivers):
        for receiver in receivers:
            uid = f"tests.{receiver.__name__}"
            probe.collection_made.connect(receiver, dispatch_uid=uid)
            uids.append(uid)

    yield connect
    for uid in uids:
        probe.collection_made.disconnect(dispatch_uid=uid)


def announce(title: str) -> Collection:
    with transaction.atomic():
        collection = Collection.objects.create(title=title)
        probe.collection_made.send_robust(sender=Collection, collection=collection)
    return collection


def test_reactions_of_several_receivers_are_one_statement(connected):
    connected(probe.enqueues, probe.writes)
    with transaction.atomic():
        collection = Collection.objects.create(title="garden")
        probe.collection_made.disconnect(dispatch_uid="tests.writes")
        with CaptureQueriesContext(connection) as queries:
            probe.collection_made.send_robust(sender=Collection, collection=collection)
    assert len(queries) == 1


def test_a_task_knows_what_it_is_about(connected):
    connected(probe.enqueues)
    collection = announce("garden")
    assert DurableTask.objects.get().subject == f"store.collection:{collection.pk}"


@pytest.mark.parametrize(
    "bad",
    [
        probe.enqueues_then_breaks_sql,
        probe.breaks_a_constraint,
        probe.breaks_a_constraint_in_its_own_block,
        probe.raises,
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_receiver_that_fails_loses_nothing_but_its_own_half_done_work(connected, bad, first):
    connected(*([bad, probe.enqueues] if first else [probe.enqueues, bad]))
    announce("garden")
    assert Collection.objects.filter(title="garden").exists()
    assert not Collection.objects.filter(title="half done").exists()
    assert [task.args for task in enqueued("tests.make_collection")] == [["because of garden"]]
    assert [task.kwargs["dispatch_uid"] for task in enqueued("celery_ledger.tasks.redeliver")] == [
        f"tests.{bad.__name__}"
    ]


def test_a_failed_receiver_is_sent_the_signal_again_and_then_reacts(connected, monkeypatch):
    connected(probe.raises)
    collection = announce("garden")
    monkeypatch.setattr(probe.collection_made.receiver_for("tests.raises"), "function", probe.writes)
    drain()
    assert Collection.objects.filter(title="beside garden").exists()
    task = enqueued("celery_ledger.tasks.redeliver")[0]
    assert (task.status, task.subject) == ("succeeded", f"store.collection:{collection.pk}")


def test_a_redelivery_that_fails_for_ever_becomes_a_dead_letter(connected):
    connected(probe.raises)
    announce("garden")
    for _ in range(10):
        DurableTask.objects.filter(status="pending").update(available_at="2010-12-01T08:00Z")
        drain()
    task = enqueued("celery_ledger.tasks.redeliver")[0]
    assert (task.status, task.last_error) == ("dead", "RuntimeError: a receiver's mistake")


def test_a_redelivery_to_a_receiver_that_is_gone_is_a_dead_letter_that_says_so(connected):
    connected(probe.raises)
    announce("garden")
    probe.collection_made.disconnect(dispatch_uid="tests.raises")
    drain()
    task = enqueued("celery_ledger.tasks.redeliver")[0]
    assert task.status == "dead"
    assert "No receiver 'tests.raises' is connected" in task.last_error


def test_a_receiver_that_writes_joins_the_transaction(connected):
    connected(probe.writes)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        announce("garden")
        1 / 0  # noqa: B018
    assert not Collection.objects.exists()


def test_a_signal_is_refused_outside_a_transaction(connected):
    connected(probe.enqueues)
    with pytest.raises(transaction.TransactionManagementError, match=r"transaction\.atomic"):
        probe.collection_made.send_robust(sender=Collection, collection=Collection(title="garden"))


def test_a_receiver_needs_a_dispatch_uid():
    with pytest.raises(TypeError, match="dispatch_uid"):
        probe.collection_made.connect(probe.enqueues)


def test_receivers_are_loud_where_a_test_asks_for_it(connected):
    connected(probe.raises)
    with loud_receivers(), pytest.raises(RuntimeError, match="a receiver's mistake"):
        announce("garden")


def test_a_name_is_one_signal_s():
    with pytest.raises(ValueError, match=r"There is a signal named 'tests.collection_made' already"):
        DurableSignal("tests.collection_made")


def test_a_signal_about_something_that_is_gone_by_then_is_a_dead_letter(connected):
    connected(probe.raises)
    announce("garden").delete()
    drain()
    [again] = DurableTask.objects.all()
    assert again.status == DurableTask.Status.DEAD
    assert "no longer exists" in again.last_error
