"""Only the ids of a message are trusted: whatever else it contains, a body runs only through its row."""

import json
import uuid

import pytest
from celery.app.trace import fast_trace_task
from kombu.message import Message

from celery_ledger import databases
from celery_ledger.models import DurableTask
from celery_ledger.work import carrying
from store.models import Collection
from tests import probe
from tests.by_hand import publish
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)
CALL = {"task": "tests.make_collection", "args": ["forged"], "kwargs": {}, "options": {}, "subtask_type": None}


def receive(ids, *, name="tests.make_collection", headers=None, orders=None):
    """What a pool process does with a message that reached it as it was, and what it answers to its parent."""
    id = str(uuid.uuid4())
    body = json.dumps([[ids], {}, orders or {}])
    request = {"id": id, "task": name, **(headers or {})}
    localized = ({name: app.tasks[name]}, {"json", "application/json"}, "worker@test")
    return fast_trace_task(name, id, request, body, "application/json", "utf-8", _loc=localized)


@pytest.mark.fault("F77")
@pytest.mark.parametrize(
    "orders",
    [
        {"is_eager": True},
        {"called_directly": True},
        {"callbacks": [CALL]},
        {"errbacks": [CALL]},
        {"chain": [CALL]},
        {"chord": CALL},
        {"callbacks": 7},
        {"ignore_result": False, "args": ["forged"]},
    ],
    ids=str,
)
def test_what_a_message_says_of_itself_runs_no_body(orders):
    for headers in ({}, orders):
        receive("forged", headers=headers, orders=orders)
        receive([str(uuid.uuid4())], headers=headers, orders=orders)
        receive([], headers=headers, orders=orders)
    assert probe.seen == []
    assert not Collection.objects.exists()
    assert not DurableTask.objects.exists()


def test_a_message_of_the_relay_s_runs_its_row():
    probe.make_collection.delay("garden")
    failed, events, _ = receive(publish(), orders={"errbacks": [CALL]})
    assert (failed, events) == (0, "[]")
    assert probe.seen == ["garden"]


def strange(*, headers=None, body=None, content_type="application/json"):
    usual = {"task": "tests.make_collection", "id": str(uuid.uuid4())}
    return Message(
        body=json.dumps([[[str(uuid.uuid4())]], {}, {}]) if body is None else body,
        content_type=content_type,
        content_encoding="utf-8",
        headers=usual | (headers or {}),
    )


@pytest.mark.parametrize(
    "message",
    [
        strange(headers={"task": None}),
        strange(headers={"task": ["a"]}),
        strange(headers={"task": "x" * 256}),
        strange(headers={"task": "a\nb"}),
        strange(headers={"id": "garbage"}),
        strange(headers={"id": 7}),
        strange(content_type="application/x-python-serialize"),
        strange(body=7),
        strange(body="{"),
        strange(body="[" * 20_000),
        strange(body='"abc"'),
        strange(body="[[7], {}, {}]"),
        strange(body='[[["garden"]], {}, {}]'),
        strange(body=json.dumps([[[str(uuid.UUID(int=7))] * (carrying.MOST_IDS + 1)], {}, {}])),
        strange(body=json.dumps([[["urn:uuid:" + str(uuid.UUID(int=7))]], {}, {}])),
    ],
)
def test_a_message_that_is_none_of_the_relay_s_is_told_apart_without_its_words(message):
    with pytest.raises(carrying.StrangeMessageError) as caught:
        carrying.purify(message)
    assert len(str(caught.value)) < 60


def test_what_celery_sees_of_a_message_is_its_errand():
    row = str(uuid.uuid4())
    embed = {"callbacks": [CALL], "is_eager": True}
    message = strange(body=json.dumps([[[row]], {"a": 1}, embed]), headers={"shadow": "x", "eta": "never", "stamps": 7})
    id = message.headers["id"]
    carrying.purify(message)
    assert message.payload == json.loads(message.body) == [[[row]], {}, {}]
    assert {name: value for name, value in message.headers.items() if value} == {
        "lang": "py",
        "task": "tests.make_collection",
        "id": id,
        "root_id": id,
        "timelimit": [None, None],
        "ignore_result": True,
        "argsrepr": f"({row})",
        "kwargsrepr": "{}",
        "ledger_database": "default",
    }


def test_a_message_waits_for_a_database_that_is_away_and_is_given_up_in_the_end(monkeypatch):
    from django.db import OperationalError

    probe.make_collection.delay("garden")
    ids = publish()
    calls = []

    def away_once(taken):
        calls.append(taken)
        if len(calls) == 1:
            raise OperationalError("the database is away")
        return

    monkeypatch.setattr(carrying, "PAUSE", 0)
    monkeypatch.setattr(probe.make_collection, "take", away_once)
    assert receive(ids)[:2] == (0, "[]")
    assert len(calls) == 2
    calls.clear()
    monkeypatch.setattr(carrying, "PATIENCE", -1)
    failed, told, _ = receive(ids)
    assert failed
    assert "the database is away" in str(told.exception)


def test_a_message_of_one_of_several_databases_does_not_wait_for_it(monkeypatch):
    from django.db import OperationalError

    probe.make_collection.delay("garden")
    ids = publish()
    calls = []

    def be_away(taken):
        calls.append(taken)
        raise OperationalError("the database is away")

    monkeypatch.setattr(probe.make_collection, "take", be_away)
    monkeypatch.setattr(databases, "are_several", lambda: True)
    failed, _, _ = receive(ids)
    assert failed
    assert len(calls) == 1
