"""Searching for tasks, and actions on many, in a ledger of any size."""

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit_trail.models import AuditEntry
from celery_ledger.context import working_on
from celery_ledger.desk import decisions, hastening, lives, searching
from celery_ledger.desk.searching import Search
from celery_ledger.models import Decision, DurableTask, FailedAttempt
from celery_ledger.testing import drain
from tests import probe
from tests.dead_letters import die, many_dead
from tests.shop import api, make_staff

pytestmark = pytest.mark.django_db
Status = DurableTask.Status
What = Decision.What
CANCEL, REPLAY, DISCARD = "cancel_durabletask", "replay_durabletask", "discard_durabletask"


def rows(number, **columns):
    made = [
        DurableTask(**({"name": "tests.make_collection", "queue": "default", "args": [place]} | columns))
        for place in range(number)
    ]
    return DurableTask.objects.bulk_create(made)


def later(number, **columns):
    """Put tasks into the ledger that are due in a minute, two, three..., the last one first."""
    made = rows(number, **columns)
    for place, task in enumerate(made):
        due = task.created_at or timezone.now()
        DurableTask.objects.filter(id=task.id).update(available_at=due + timedelta(minutes=number - place))
    return made


def found(**wish):
    return {task.id for task in searching.page(Search(**wish)).tasks}


class TestByWhatIsKnown:
    def test_each_filter_finds_its_own(self):
        request, subject = "req-7", "store.order:7"
        one, other = rows(2)
        wanted = rows(1, name="tests.ring", queue="email", subject=subject, request_id=request, last_error="no bell")[0]
        for wish in (
            {"task": "tests.ring"},
            {"queue": "email"},
            {"subject": subject},
            {"request_id": request},
            {"error": "NO BELL"},
            {"words": "ring"},
            {"id": wanted.id},
        ):
            assert found(**wish) == {wanted.id}, wish
            assert searching.count(Search(**wish)).rows == 1, wish
        assert found() == {one.id, other.id, wanted.id}

    def test_arguments_are_found_by_value_name_and_place(self):
        wishes = [
            ("42", {0, 1, 3}),
            ("lamp", {2}),
            ("order=42", {3}),
            ('{"order": 42, "fast": true}', {3}),
            ('{"order": 42, "fast": false}', set()),
            ('["x", "lamp"]', {2}),
            ("null", {4}),
            ("true", {3}),
            ("1", set()),
            ("'; --", set()),
            ("fast=1", set()),
            ("%", set()),
        ]
        calls = [
            ([42], {}),
            (["42"], {}),
            (["x", "lamp"], {}),
            ([], {"order": 42, "fast": True}),
            ([None], {}),
            ([[1]], {"deep": {"order": 43}}),
        ]
        made = [rows(1, args=args, kwargs=kwargs)[0].id for args, kwargs in calls]
        for wish, places in wishes:
            assert found(argument=wish) == {made[place] for place in places}, wish

    def test_what_is_no_argument_is_said(self):
        for wish in ["", " ", "[]", "{}", '{"a": [1]}', "\x00", '"\\u0000"', str(10**30), "\ud800"]:
            with pytest.raises(ValueError, match=r"argument|number"):
                Search(argument=wish)

    def test_age_and_duration(self):
        old, slow, new = rows(3)
        now = timezone.now()
        DurableTask.objects.filter(id=old.id).update(created_at=now - timedelta(hours=2))
        DurableTask.objects.filter(id=slow.id).update(
            status=Status.SUCCEEDED, published_at=now - timedelta(seconds=30), completed_at=now
        )
        assert found(slower_than=20.0) == {slow.id}
        assert found(slower_than=40.0) == set()
        assert new.id in found(since=now - timedelta(hours=1))
        assert old.id not in found(since=now - timedelta(hours=1))


class TestStates:
    def test_retrying_and_scheduled_are_shown_by_when_they_run_next(self):
        scheduled = later(3)
        retrying = later(2, attempts=1, last_error="busy")
        rows(1)
        assert [task.id for task in searching.page(Search(state="scheduled")).tasks] == [t.id for t in scheduled][::-1]
        assert [task.id for task in searching.page(Search(state="retrying")).tasks] == [t.id for t in retrying][::-1]
        assert searching.count(Search(state="pending")).rows == 6
        assert searching.count(Search(state="later")).rows == 5
        with pytest.raises(ValueError, match="no state"):
            Search(state="asleep")

    def test_pages_follow_one_another_without_a_gap_or_a_double(self):
        for make in (rows, later, many_dead):
            make(25)
        for state, number in ((None, 75), ("dead", 25), ("scheduled", 25), ("pending", 50), ("open", 50)):
            seen, after = [], None
            while True:
                page = searching.page(Search(state=state), after=after, size=10)
                seen += [task.id for task in page.tasks]
                after = page.after
                if after is None:
                    break
            assert len(seen) == len(set(seen)) == number, state

    def test_a_cursor_of_another_search_is_refused(self):
        many_dead(3)
        cursor = searching.page(Search(state="dead"), size=1).after
        for wrong in (cursor, "x", "~", "2026-01-01~x", "\x00"):
            with pytest.raises(ValueError, match=r"cursor|UUID|isoformat|hexadecimal"):
                searching.page(Search(), after=wrong)


class TestLargeLedgers:
    def test_a_page_looks_only_so_long_and_goes_on_from_there(self, monkeypatch):
        monkeypatch.setattr(searching, "FIRST_LOOK", 10)
        wanted = rows(1, name="tests.ring")[0]
        time.sleep(0.002)  # Ids of one millisecond are in no order.
        rows(55)
        pages, after = [], None
        while True:
            page = searching.page(Search(task="tests.ring"), after=after, patience=0)
            pages.append(page)
            after = page.after
            if after is None:
                break
        assert len(pages) == 6
        assert [len(page.tasks) for page in pages] == [0, 0, 0, 0, 0, 1]
        assert pages[-1].tasks[0].id == wanted.id
        assert all(page.looked_to is not None for page in pages[:-1])
        assert pages[-1].looked_to is None

    def test_a_count_says_how_well_it_is_known(self, monkeypatch):
        monkeypatch.setattr(searching, "MOST_COUNTED", 10)
        rows(30)
        many_dead(5)
        assert searching.count(Search(state="dead")) == searching.Count(5)
        assert searching.count(Search(argument="3")).is_ == "at least"
        assert str(searching.count(Search(argument="99"))) == "at least 0"
        everything = searching.count(Search())
        assert everything.is_ == ("estimate" if connection.vendor == "postgresql" else "at least")

    def test_no_page_counts_all_there_is(self):
        rows(5)
        with CaptureQueriesContext(
            connection,
        ) as asked:
            api(make_staff()).get("/api/ops/tasks/?status=succeeded")
        counts = [
            query["sql"]
            for query in asked
            if "COUNT(*)" in query["sql"] and "celery_ledger_durabletask" in query["sql"]
        ]
        assert len(counts) <= 1  # Of those within the bound: here, of five.


class TestOverTheApi:
    def test_a_page_has_the_contracts_shape_and_links_to_the_next(self):
        rows(3)
        client = api(make_staff())
        body = client.get("/api/ops/tasks/?task=tests.make_collection&page_size=2").json()
        assert (body["count"], body["count_is"], body["previous"], len(body["results"])) == (3, "exact", None, 2)
        rest = client.get(body["next"]).json()
        assert (rest["next"], len(rest["results"])) == (None, 1)
        assert rest["previous"].endswith("/api/ops/tasks/?task=tests.make_collection&page_size=2")
        assert body["results"][0].keys() >= {"id", "task", "queue", "status", "attempts", "next_at", "last_error"}

    def test_spans_are_read(self):
        rows(1)
        client = api(make_staff())
        for query, number in (
            ("newer_than=1h", 1),
            ("older_than=1h", 0),
            ("slower_than=1.5s", 0),
            ("newer_than=7d", 1),
        ):
            answer = client.get(f"/api/ops/tasks/?task=tests.make_collection&{query}")
            assert (answer.status_code, answer.json()["count"]) == (200, number), query
        wish = {"what": "cancel", "search": {"older_than": "1h"}, "dry_run": True}
        assert api(make_staff(CANCEL)).post("/api/ops/tasks/decide/", wish, "json").json()["count"] == 0

    def test_it_finds_an_order_by_its_number(self):
        wanted = rows(1, subject="store.order:7")[0]
        rows(1)
        body = api(make_staff()).get("/api/ops/tasks/?q=%237").json()
        assert [row["id"] for row in body["results"]] == [str(wanted.id)]

    def test_a_wrong_query_is_a_400_that_says_so(self):
        for query in [
            "status=asleep",
            "newer_than=soon",
            "newer_than=999999999d",
            "argument=[]",
            "after=x",
            "page_size=0",
            "page_size=101",
            "colour=red",
            "q=%00",
        ]:
            answer = api(make_staff()).get(f"/api/ops/tasks/?{query}")
            assert answer.status_code == 400, answer.content
            assert answer.headers["Content-Type"] == "application/problem+json"

    @pytest.mark.django_db(transaction=True)
    def test_a_life_is_told_attempt_by_attempt(self):
        task = die("garden")
        body = api(make_staff()).get(f"/api/ops/tasks/{task.id}/").json()
        assert [event["kind"] for event in body["events"]] == ["enqueued", "published", "failed", "died"]
        failed = body["events"][2]
        assert failed["attempt"] == 1
        assert "PermissionError" in failed["text"]
        assert "Traceback" in failed["traceback"]
        assert body["task"]["state"] == "dead"
        assert api(make_staff()).get("/api/ops/tasks/00000000-0000-4000-8000-000000000000/").status_code == 404

    def test_a_life_names_the_user_of_its_request_and_its_trace(self):
        user, trace = make_staff(), "0af7651916cd43dd8448eb211c80319c"
        with working_on(request_id="a request", actor=lambda: user.pk):
            called = probe.make_collection.apply_async(
                ("atlases",), headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
            )
        by_sentry = rows(1, options={"headers": {"sentry-trace": f"{trace}-b7ad6b7169203331-1"}})[0]
        body = api(user).get(f"/api/ops/tasks/{called.id}/").json()
        assert f"by request a request of {user.username}," in body["events"][0]["text"]
        assert (body["trace"], lives.life_of(by_sentry.id).trace) == (trace, trace)
        user.delete()
        assert f"of user {DurableTask.objects.get(id=called.id).options['actor']}, who is deleted," in (
            lives.life_of(called.id).events[0].text
        )

    def test_a_life_names_what_it_called(self):
        parent = rows(1, status=Status.SUCCEEDED, published_at=timezone.now(), completed_at=timezone.now(), attempts=1)[
            0
        ]
        child = rows(1, options={"parent_id": str(parent.id)})[0]
        life = lives.life_of(parent.id)
        assert [each.id for each in life.called] == [child.id]
        assert lives.life_of(child.id).parent.id == parent.id


class TestFailing:
    def attempt(self, name, *, ago, error="OSError: busy"):
        task = rows(1, name=name, queue="email", attempts=1)[0]
        FailedAttempt.objects.create(
            task=task, number=1, failed_at=timezone.now() - timedelta(seconds=ago), error=error
        )

    def test_a_task_fails_from_its_first_failure_on_until_it_succeeds(self):
        client = api(make_staff())
        assert client.get("/api/ops/failing/").json()["results"] == []
        self.attempt("tests.ring", ago=600, error="OSError: first\nmore")
        self.attempt("tests.ring", ago=2, error="OSError: last\nmore")
        [row] = client.get("/api/ops/failing/").json()["results"]
        assert (row["task"], row["queue"], row["failed"], row["error"]) == ("tests.ring", "email", 2, "OSError: last")
        assert row["text"].startswith("tests.ring has failed for 10 minutes: 2 attempts")
        done = {"status": Status.SUCCEEDED, "completed_at": timezone.now()}
        rows(1, name="tests.ring", **done | {"completed_at": timezone.now() - timedelta(seconds=60)})
        assert client.get("/api/ops/failing/").json()["results"][0]["failed"] == 1
        rows(1, name="tests.ring", **done)
        assert client.get("/api/ops/failing/").json()["results"] == []

    def test_what_failed_long_ago_and_not_since_is_no_news(self):
        self.attempt("tests.ring", ago=1_000)
        assert api(make_staff()).get("/api/ops/failing/").json()["results"] == []


class TestDeciding:
    def test_scheduled_tasks_run_now_once_and_it_is_on_record(self):
        later(3)
        client = api(make_staff(REPLAY))
        wish = {"what": "run-now", "search": {"status": "scheduled"}, "reason": "the shop opens early"}
        assert client.post("/api/ops/tasks/decide/", wish | {"dry_run": True}, "json").json()["count"] == 3
        assert client.post("/api/ops/tasks/decide/", wish, "json").json() == {
            "count": 3,
            "count_is": "exact",
            "decision": None,
        }
        assert client.post("/api/ops/tasks/decide/", wish, "json").json()["count"] == 0
        assert searching.count(Search(state="later")).rows == 0
        entries = AuditEntry.objects.filter(model="celery_ledger.durabletask")
        assert [entry.after for entry in entries] == [{"due": "now", "reason": "the shop opens early"}] * 3

    def test_what_is_due_already_is_not_run_now_again(self):
        waiting, due, ended = later(1), rows(1), rows(1, status=Status.SUCCEEDED)
        assert hastening.run_now([task.id for task in (*waiting, *due, *ended)]) == 1
        assert hastening.run_now([task.id for task in waiting]) == 0

    def test_they_run_in_order_at_a_bounded_rate(self):
        ids = [task.id for task in later(4)]
        assert hastening.run_now(ids, per_second=0.5) == 4
        due = DurableTask.objects.filter(id__in=ids).order_by("available_at")
        assert [task.id for task in due] == ids
        assert (due[3].available_at - due[0].available_at).total_seconds() == pytest.approx(6, abs=0.01)

    def test_what_waits_is_cancelled_with_a_reason_and_nothing_else(self):
        waiting, running = rows(2), rows(1, status=Status.RUNNING, lease_until=timezone.now() + timedelta(minutes=1))
        client = api(make_staff(CANCEL))
        wish = {"what": "cancel", "search": {"task": "tests.make_collection"}}
        assert client.post("/api/ops/tasks/decide/", wish | {"dry_run": True}, "json").json()["count"] >= 2
        assert client.post("/api/ops/tasks/decide/", wish, "json").status_code == 400
        assert client.post("/api/ops/tasks/decide/", wish | {"reason": "a test"}, "json").json()["count"] == 2
        assert set(DurableTask.objects.filter(status="cancelled").values_list("id", flat=True)) == {
            t.id for t in waiting
        }
        running[0].refresh_from_db()
        assert running[0].status == Status.RUNNING

    def test_dead_letters_found_by_an_argument_are_replayed(self):
        many_dead(5)
        client = api(make_staff(REPLAY))
        wish = {"what": "replay", "search": {"argument": "shelf 3"}, "per_second": 10}
        assert client.post("/api/ops/tasks/decide/", wish | {"dry_run": True}, "json").json()["count"] == 1
        assert client.post("/api/ops/tasks/decide/", wish, "json").json()["count"] == 1
        assert DurableTask.objects.get(status="pending", name="tests.make_collection").args == ["shelf 3"]

    def test_each_decision_takes_its_permission(self):
        for what, held in [("replay", DISCARD), ("cancel", REPLAY), ("discard", CANCEL), ("x", REPLAY)]:
            rows(1)
            wish = {"what": what, "search": {}, "reason": "why"}
            assert api(make_staff(held)).post("/api/ops/tasks/decide/", wish, "json").status_code == 403

    def test_a_wrong_wish_is_a_400(self):
        for wish in [
            {},
            {"what": "replay"},
            {"what": "replay", "ids": []},
            {"what": "replay", "ids": ["x"]},
            {"what": "replay", "search": {"colour": "red"}},
            {"what": "replay", "search": {"status": "asleep"}},
            {"what": "replay", "search": {"argument": "{}"}},
            {"what": "replay", "search": {}, "ids": ["00000000-0000-4000-8000-000000000000"]},
            {"what": "replay", "search": {}, "per_second": 0},
            {"what": "cancel", "search": {}, "reason": "  "},
            {"what": "burn", "search": {}, "reason": "why"},
        ]:
            answer = api(make_staff(REPLAY, CANCEL, DISCARD)).post("/api/ops/tasks/decide/", wish, "json")
            assert answer.status_code == 400, answer.content

    def test_very_many_are_cancelled_by_a_worker_in_portions_and_on_record(self, monkeypatch):
        monkeypatch.setattr(decisions, "AT_ONCE", 5)
        monkeypatch.setattr(decisions, "PORTION", 4)
        rows(10, queue="email")
        user = make_staff(CANCEL)
        wish = {"what": "cancel", "search": {"task": "tests.make_collection"}, "reason": "a test"}
        answer = api(user).post("/api/ops/tasks/decide/", wish, "json")
        assert (answer.status_code, answer.json()["count"]) == (202, 10)
        late = rows(1, queue="email")[0]
        DurableTask.objects.filter(id=late.id).update(created_at=timezone.now() + timedelta(seconds=1))
        decision = Decision.objects.get(pk=answer.json()["decision"])
        assert list(decisions.steps(decision)) == [4, 8, 10]
        assert (decision.done, decision.percent, decision.ended_at is not None) == (10, 100, True)
        late.refresh_from_db()
        assert late.status == Status.PENDING
        assert {e.who for e in AuditEntry.objects.filter(model="celery_ledger.durabletask")} == {user}

    def test_very_many_run_now_at_a_rate_and_none_twice(self, monkeypatch):
        monkeypatch.setattr(decisions, "PORTION", 3)
        later(8)
        decision = decisions.write_down(What.RUN_NOW, Search(state="scheduled"), per_second=1.0)
        assert list(decisions.steps(decision)) == [3, 6, 8]
        due = sorted(DurableTask.objects.values_list("available_at", flat=True))
        assert (due[-1] - due[0]).total_seconds() == pytest.approx(7, abs=1)

    @pytest.mark.django_db(transaction=True)
    def test_a_replayed_task_that_is_tried_again_is_found_with_its_error(self):
        probe.failing["hut"] = OSError("busy")
        probe.make_collection.delay("hut")
        drain()
        body = api(make_staff()).get("/api/ops/tasks/?status=retrying").json()
        assert len(body["results"]) == 1
        row = body["results"][0]
        assert (row["state"], row["attempts"]) == ("retrying", 1)
        assert "busy" in row["last_error"]
        assert row["next_at"] is not None
        assert FailedAttempt.objects.count() == 1
