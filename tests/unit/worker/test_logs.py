"""How log lines are written."""

import json
import logging
import sys

import pytest

from celery_ledger.context import working_on
from worker.logs import JSONFormatter, LineFormatter, NoCanaries


def record(message="said %s", *args, **extra):
    made = logging.LogRecord("shop", logging.WARNING, __file__, 1, message, args or ("this",), None)
    vars(made).update(extra)
    return made


def test_a_json_line_names_its_request_and_subject():
    with working_on(request_id="r-1", subject="store.order:4"):
        event = json.loads(JSONFormatter().format(record(data={"ms": 3})))
    assert event.pop("time").endswith("+00:00")
    assert event.pop("process")
    assert event == {
        "level": "WARNING",
        "logger": "shop",
        "event": "said this",
        "request_id": "r-1",
        "subject": "store.order:4",
        "ms": 3,
    }


def test_a_traceback_stays_in_its_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        line = JSONFormatter().format(record(exc_info=sys.exc_info()))
    assert "\n" not in line
    assert json.loads(line)["traceback"].endswith("ValueError: two\nlines")


@pytest.mark.parametrize(
    ("request_id", "line"), [("r-1", "said this (request r-1)"), ("", "said this")], ids=["in one", "in none"]
)
def test_a_line_for_people_ends_with_the_request(request_id, line):
    with working_on(request_id=request_id):
        assert LineFormatter().format(record()) == line


@pytest.mark.parametrize(
    ("name", "level", "kept"),
    [
        ("celery_ledger.tasks.see_canary", logging.INFO, False),
        ("celery_ledger.tasks.see_canary", logging.ERROR, True),
        ("celery_ledger.tasks.prune", logging.INFO, True),
    ],
)
def test_canaries_are_spoken_of_only_when_they_fail(name, level, kept):
    args = {"name": name, "id": "1"}
    told = logging.LogRecord("celery.app.trace", level, __file__, 1, "Task %(name)s[%(id)s] ended", (args,), None)
    assert NoCanaries().filter(told) is kept


def test_a_line_without_arguments_is_kept():
    assert NoCanaries().filter(record())
