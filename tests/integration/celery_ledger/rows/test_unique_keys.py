"""Calls that share a key: how long one row represents all of them, and whose arguments it has."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from celery_ledger.desk import dead_letters
from celery_ledger.models import DurableTask
from celery_ledger.rows import ledger
from celery_ledger.rows.outbox import collecting
from celery_ledger.testing import drain, pass_time
from tests import probe

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status

#: What the first call's row has come to, and the terms for which it stands for a second call then.
STATES = {
    "pending": ({}, {"kept", "pending", "done", 60}),
    "published": ({"status": Status.PUBLISHED, "published_at": timezone.now()}, {"kept", "done", 60}),
    "running": ({"status": Status.RUNNING, "published_at": timezone.now()}, {"kept", "done", 60}),
    "to be retried": ({"published_at": timezone.now(), "attempts": 1}, {"kept", "done", 60}),
    "succeeded": ({"status": Status.SUCCEEDED, "published_at": timezone.now()}, {"kept", 60}),
    "dead": ({"status": Status.DEAD, "published_at": timezone.now()}, {"kept", 60}),
    "cancelled while pending": ({"status": Status.CANCELLED}, {"kept", 60}),
    "over its period": ({"unique_until": timezone.now()}, set()),
    "pruned": (None, set()),
}


def call(title="a", **options):
    return probe.make_collection.apply_async((title,), unique_key="key", **options)


def rows():
    return DurableTask.objects.order_by("id")


@pytest.mark.parametrize("unique_for", ["kept", "pending", "done", 60])
def test_the_first_row_stands_for_as_long_as_it_says(unique_for):
    stood = {unique_for} if unique_for != 60 else set()
    for state, (changes, stands_for) in STATES.items():
        if state == "over its period" and unique_for != 60:
            continue
        DurableTask.objects.all().delete()
        first = call(unique_for=unique_for)
        if changes is None:
            rows().delete()
        else:
            rows().update(**changes)
        handles = [call(unique_for=unique_for) for _ in range(2)]
        if unique_for in stands_for:
            assert {handle.id for handle in handles} == {first.id}, state
            stood.add(unique_for)
        else:
            assert first.id != handles[0].id == handles[1].id, state
        assert rows().filter(pk=handles[0].id).exists(), state
    assert stood == {unique_for}


@pytest.mark.parametrize("unique_for", ["pending", "done"])
def test_a_row_that_comes_back_is_in_no_later_rows_way(unique_for):
    """Neither by a retry, nor by the broker that refuses it, nor by a replay."""
    call(unique_for=unique_for)
    (claimed,) = ledger.claim({"default": 1}, lease=60, limit=1)
    if unique_for == "done":
        DurableTask.objects.update(status=Status.DEAD)
    call(unique_for=unique_for)
    if unique_for == "done":
        assert dead_letters.replay([claimed.id]) == 1
    else:
        ledger.release([claimed.id])
    assert [row.status for row in rows()] == [Status.PENDING] * 2


def test_calls_that_never_pause_put_a_debounced_one_off_for_as_long_as_they_say_and_no_longer():
    def due_in(title, **options):
        call(title, debounce=60, debounce_at_most=timedelta(minutes=5), **options)
        row = DurableTask.objects.get()
        return (row.available_at - row.created_at).total_seconds(), row.args[0]

    assert due_in("a") == (pytest.approx(60, abs=1), "a")
    DurableTask.objects.update(created_at=F("created_at") - timedelta(minutes=3))
    assert due_in("b") == (pytest.approx(240, abs=5), "b")
    DurableTask.objects.update(created_at=F("created_at") - timedelta(seconds=90))
    assert due_in("c") == (pytest.approx(300, abs=1), "c")
    assert due_in("d", eta=timezone.now() + timedelta(days=1)) == (pytest.approx(300, abs=1), "d")
    probe.make_collection.apply_async(("other",), unique_key="other", debounce=60, debounce_at_most=5)
    row = DurableTask.objects.get(args__0="other")
    assert row.available_at - row.created_at < timedelta(seconds=6)


def test_of_debounced_calls_the_last_one_is_done_so_long_after_it():
    first = call("a", debounce=60, queue="default", expires=3_600)
    DurableTask.objects.update(available_at=F("available_at") - timedelta(seconds=50))
    last = call("b", debounce=timedelta(seconds=60), priority=2, headers={"from": "b"})
    assert first.id == last.id
    row = rows().get()
    assert (row.args, row.priority, row.expires_at, row.options["headers"]) == (["b"], 2, None, {"from": "b"})
    assert 50 < (row.available_at - timezone.now()).total_seconds() <= 61
    assert drain() == 0
    with collecting():
        handles = [call(title, debounce=60) for title in "cd"]
    assert {handle.id for handle in handles} == {first.id}
    pass_time(seconds=61)
    drain()
    assert probe.seen == ["d"]
    assert call("e", debounce=0).id != first.id
    drain()
    assert probe.seen == ["d", "e"]


def test_a_task_says_it_for_its_calls():
    handles = [probe.debounced.delay(title, number=number) for title in "ab" for number in range(3)]
    assert len({handle.id for handle in handles}) == 2
    assert probe.debounced.apply_async(("a",), unique_key="another").id not in {handle.id for handle in handles}
    assert probe.debounced.apply_async(("a",), unique_key="b", unique_for="kept", countdown=0)
    drain()
    assert probe.seen == [("a", 0)]
    pass_time(seconds=61)
    drain()
    assert sorted(probe.seen[1:]) == [("a", 0), ("a", 2), ("b", 2)]


def test_a_task_id_that_is_known_is_refused_but_for_the_row_that_stands():
    first = call(unique_for="pending")
    assert call(unique_for="pending", task_id=first.id).id == first.id
    ledger.claim({"default": 1}, lease=60, limit=1)
    with pytest.raises(ValueError, match="already"):
        call(unique_for="pending", task_id=first.id)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"unique_for": "pending"}, ValueError),
        ({"debounce": 5}, ValueError),
        ({"unique_key": "key", "unique_for": "done", "debounce": 5}, ValueError),
        ({"unique_key": "key", "unique_for": "ended"}, ValueError),
        ({"unique_key": "key", "unique_for": 0}, ValueError),
        ({"unique_key": "key", "unique_for": float("nan")}, ValueError),
        ({"unique_key": "key", "unique_for": True}, TypeError),
        ({"unique_key": "key", "debounce": "soon"}, TypeError),
        ({"unique_key": "key", "debounce_at_most": 5}, ValueError),
        ({"unique_key": "key", "debounce": 5, "debounce_at_most": "soon"}, TypeError),
    ],
)
def test_what_goes_not_together_is_refused(options, error):
    with pytest.raises(error, match=r"tests\.make_collection: "):
        probe.make_collection.apply_async(("a",), **options)
    assert not rows().exists()
