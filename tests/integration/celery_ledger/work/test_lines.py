"""A worker's log lines for each row, in Celery's wording."""

import pickle
import threading

import pytest
from celery.app import trace
from celery.exceptions import Ignore, Reject

from celery_ledger.testing import drain, pass_time
from tests import probe
from worker.celery import app
from worker.task import Task

pytestmark = pytest.mark.django_db(transaction=True)
CELERYS = {"celery.worker.strategy", "celery.app.trace"}


@pytest.fixture(params=[True, False], ids=["inside", "outside"])
def end(request):
    """Have a task that ends in the way that it is given."""

    @app.task(name="tests.end", base=Task, transactional=request.param, max_retries=1, throws=(KeyError,))
    def end(way):
        if way is not None:
            raise {"ignore": Ignore, "reject": Reject, "expected": KeyError}.get(way, OSError)(way)
        return {"number": 42}

    yield end
    app.tasks.pop("tests.end")


def said(caplog, id):
    """Return what is said of a row, and by whom."""
    return [
        (record.levelname, record.msg, record.data["args"], record.data["kwargs"])
        for record in caplog.records
        if record.name in CELERYS and record.data["id"] == id
    ]


@pytest.mark.parametrize(
    ("way", "line"),
    [
        (None, ("INFO", trace.LOG_SUCCESS)),
        ("ignore", ("INFO", trace.LOG_IGNORED)),
        ("reject", ("INFO", trace.LOG_REJECTED)),
        ("other", ("INFO", trace.LOG_RETRY)),
    ],
)
def test_each_row_is_told_of_as_a_message_would_be(end, caplog, way, line):
    caplog.set_level("INFO", "celery")
    call = end.apply_async((way,), argsrepr="(...)", kwargsrepr="{...}")
    secret = end.delay(way)
    drain()
    assert said(caplog, call.id) == [("INFO", trace.LOG_RECEIVED, "(...)", "{...}"), (*line, "(...)", "{...}")]
    assert {words[2:] for words in said(caplog, secret.id)} == {(f"({secret.id})", "{}")}  # Else ids only.


def test_what_it_returned_is_shown(end, caplog):
    caplog.set_level("INFO", "celery")
    call = end.delay(None)
    drain()
    assert f"Task tests.end[{call.id}] succeeded in " in caplog.text
    assert "s: {'number': 42}" in caplog.text


@pytest.mark.parametrize(("way", "level"), [("expected", "INFO"), ("other", "ERROR")])
def test_a_final_failure_has_its_traceback_unless_it_is_expected(end, caplog, way, level, monkeypatch):
    monkeypatch.setattr(end, "max_retries", 0)
    caplog.set_level("INFO", "celery")
    call = end.delay(way)
    drain()
    [record] = [record for record in caplog.records if record.msg == trace.LOG_FAILURE]
    assert (record.levelname, record.data["id"], bool(record.exc_info)) == (level, call.id, level == "ERROR")


class OfALockError(Exception):
    """What it holds goes to no other process, and neither does it."""

    def __init__(self, way, lock):
        super().__init__(way)
        self.lock = lock


def test_what_is_logged_of_errors_can_be_sent_to_another_process(end, caplog, monkeypatch):
    """As some handlers do, whose thread ends when it cannot."""

    def fail(way):
        raise OfALockError(way, threading.Lock())

    monkeypatch.setattr(end, "run", fail)
    for _ in range(2):
        end.delay("path")
    drain()
    pass_time(seconds=5)
    drain()
    logged = [pickle.loads(pickle.dumps(record.exc_info)) for record in caplog.records if record.exc_info]
    assert len(logged) == 4, "two were retried, and failed"
    assert all("OfALockError" in repr(info) for info in logged)


def test_a_batch_is_told_of_by_its_message(caplog):
    caplog.set_level("INFO", "celery")
    ids = [probe.make_collections.delay(f"shelf {number}").id for number in range(3)]
    drain()
    assert [said(caplog, id) for id in ids] == [[]] * 3
