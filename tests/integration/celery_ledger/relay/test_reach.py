"""How far back a relay's claims search: not over finished rows, and far enough to miss nothing."""

import time
from datetime import timedelta

import pytest
from django.db.models import F

from celery_ledger.models import DurableTask
from celery_ledger.relay import reach
from celery_ledger.relay.reach import Reach
from celery_ledger.rows import ledger
from celery_ledger.rows.ledger import WHOLE
from tests import probe

pytestmark = pytest.mark.django_db


def taken(sight, rooms, rows, *, limit=100):
    back = sight.begin(rooms)
    sight.note(rooms, rows, limit=limit)
    return back


def test_a_claim_begins_where_the_last_one_left_nothing():
    sight, rooms = Reach(), {"default": 5, "email": 5, "full": 0}
    assert taken(sight, rooms, ["default"] * 5) == {"default": WHOLE, "email": WHOLE, "full": WHOLE}
    assert sight.back(["default"]) == {"default": WHOLE}  # There may be more.
    assert reach.LATE <= sight.back(["email"])["email"] < reach.LATE + 5
    back = taken(sight, rooms, ["default"] * 4)
    assert back["email"] < WHOLE
    assert back["full"] == WHOLE  # It was not looked at.
    assert sight.back(["default"])["default"] < WHOLE


def test_what_is_further_back_is_found_by_a_whole_look_soon(monkeypatch):
    sight, rooms = Reach(), {"default": 5}
    taken(sight, rooms, [])
    assert taken(sight, rooms, [])["default"] < WHOLE
    clock = time.monotonic() + 1.5 * reach.INTERVAL
    monkeypatch.setattr(reach.time, "monotonic", lambda: clock)
    assert taken(sight, rooms, ["default"] * 5)["default"] == WHOLE
    assert sight.back(["default"])["default"] == WHOLE  # A backlog, however old.


def test_a_claim_that_took_as_much_as_it_may_says_nothing_of_the_rest():
    sight, rooms = Reach(), {"default": 5, "email": 5}
    taken(sight, rooms, ["default"] * 4, limit=4)
    assert sight.back(rooms) == dict.fromkeys(rooms, WHOLE)


def test_a_whole_look_follows_at_once_where_it_is_quick(monkeypatch):
    sight, rooms = Reach(), {"default": 5}
    taken(sight, rooms, [])
    sight.hurry()
    assert sight.back(rooms) == {"default": WHOLE}
    assert taken(sight, rooms, []) == {"default": WHOLE}

    sight.hurry()
    sight.begin(rooms)
    clock = time.monotonic() + 2 * reach.INTERVAL / reach.SHARE
    monkeypatch.setattr(reach.time, "monotonic", lambda: clock)
    sight.note(rooms, [], limit=100)
    sight.hurry()
    assert sight.back(rooms)["default"] < WHOLE


@pytest.mark.postgresql
def test_the_statements_keep_to_it():
    probe.make_collection.delay("old")
    DurableTask.objects.update(available_at=F("available_at") - timedelta(seconds=10))
    assert not ledger.any_due(["default"], back={"default": 5.0})
    assert ledger.claim({"default": 5}, lease=60, limit=5, back={"default": 5.0}) == []
    assert ledger.any_due(["default"], back={"default": 30.0})
    assert ledger.any_due(["default"])
    assert len(ledger.claim({"default": 5}, lease=60, limit=5, back={"default": WHOLE})) == 1


@pytest.mark.postgresql
def test_a_relay_finds_what_was_committed_late():
    sight = Reach()
    rooms = {"default": 5}
    for _ in range(2):
        rows = ledger.claim(rooms, lease=60, limit=5, back=sight.begin(rooms))
        sight.note(rooms, [row.queue for row in rows], limit=5)
    probe.make_collection.delay("late")
    DurableTask.objects.update(available_at=F("available_at") - timedelta(hours=1))  # As a long transaction's.
    began = time.monotonic()
    while not ledger.claim(rooms, lease=60, limit=5, back=sight.begin(rooms)):
        sight.note(rooms, [], limit=5)
        assert time.monotonic() - began < 20
        time.sleep(0.05)


def test_most_claims_look_back_a_moment_and_some_a_second(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(reach.time, "monotonic", lambda: clock[0])
    sight, rooms = Reach(), {"default": 5}
    taken(sight, rooms, [])
    seen = []
    for _ in range(80):
        clock[0] += 0.01
        seen.append(taken(sight, rooms, [])["default"])
    near, far = [back for back in seen if back < 0.1], [back for back in seen if back > 1.2]
    assert near == [pytest.approx(0.06)] * len(near)
    assert far == [pytest.approx(1.25, abs=0.02)] * 3  # From a second before the last claim that looked so far back.
    assert len(near) == 77
