"""``task_received`` is sent for rows instead of messages."""

from types import SimpleNamespace
from unittest import mock

import pytest
from celery import signals
from django.db import OperationalError

from celery_ledger.rows import ledger
from celery_ledger.work import arrivals
from tests import probe
from tests.by_hand import publish, take
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def received():
    """Return the requests of which receivers are told."""
    told = []

    def receive(request, **_):
        told.append(request)

    signals.task_received.connect(receive)
    yield told
    signals.task_received.disconnect(receive)


def bring(ids):
    task = probe.make_collection
    carrier = SimpleNamespace(
        ids=ids, name=task.name, task=task, delivery_info={}, hostname="here@there", database="default"
    )
    arrivals.tell(mock.Mock(app=app), carrier)


def test_each_row_is_a_request_of_its_own(received):
    signature = probe.make_collection.si("One")
    signature.link(probe.make_collection.si("Two"))
    signature.link_error(probe.make_collection.si("Three"))
    signature.stamp(tenant=7)
    calls = [signature.apply_async(priority=2), probe.make_collection.apply_async(("Four",), headers={"who": "Ann"})]
    bring(publish())
    assert [request.id for request in received] == [call.id for call in calls]
    first, second = received
    assert (first.name, first.args, first.kwargs) == (probe.make_collection.name, ["One"], {})
    assert (first.stamped_headers, first.stamps) == (["tenant"], {"tenant": 7})
    assert (first.body[2]["callbacks"][0]["args"], first.errbacks[0]["args"]) == (["Two"], ["Three"])
    assert first.delivery_info["priority"] == 2
    assert (second.request_dict["who"], second.stamps, second.errbacks) == ("Ann", {}, None)


def test_what_has_ended_is_not_told_again(received):
    probe.make_collection.delay("One")
    ids = publish()
    take(probe.make_collection, ids)
    bring(ids)
    assert received == []


def test_a_database_that_is_away_holds_no_message_up(received, monkeypatch, caplog):
    def be_away(ids):
        raise OperationalError("the server closed the connection")

    probe.make_collection.delay("One")
    ids = publish()
    monkeypatch.setattr(ledger, "arrived", be_away)
    bring(ids)
    assert received == []
    assert "cannot be read, and no receiver is told: the server closed the connection" in caplog.text
