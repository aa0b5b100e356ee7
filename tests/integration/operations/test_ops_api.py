"""``/api/ops/``: queues and dead letters for staff, and the record of their actions."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken

from audit_trail.models import AuditEntry
from celery_ledger.desk import dead_letters, queues
from celery_ledger.models import DurableTask, FailedAttempt, QueueLimit, QueueSample
from celery_ledger.relay import limits
from celery_ledger.rows import ledger, tally
from celery_ledger.testing import drain
from celery_ledger.watch import samples
from celery_ledger.work import consumer
from tests import probe
from tests.dead_letters import die, many_dead
from tests.processes import best_of
from tests.shop import api, make_staff

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status
REPLAY, DISCARD, EDIT, STEER = (
    "replay_durabletask",
    "discard_durabletask",
    "change_durabletask",
    "change_queueswitch",
)


class TestQueues:
    def test_a_row_per_queue_has_the_contracts_fields(self):
        probe.make_collection.delay("a")
        body = api(make_staff()).get("/api/ops/queues/").json()

        assert [row["queue"] for row in body["results"]] == samples.queue_names()
        row = body["results"][0]
        assert row.pop("oldest_pending_seconds") >= 0
        assert row == {
            "queue": "default",
            "pending": 1,
            "published": 0,
            "running": 0,
            "dead": 0,
            "retrying": 0,
            "completed_per_minute": 0,
            "paused": False,
            "per_second": None,
            "concurrency": None,
        }
        assert body["results"][2]["oldest_pending_seconds"] is None

    def test_what_was_done_is_a_rate_since_the_last_sample(self):
        samples.take({})
        for title in "abc":
            probe.make_collection.delay(title)
        drain()

        def rate():
            return api(make_staff()).get("/api/ops/queues/").json()["results"][0]["completed_per_minute"]

        assert rate() == 3
        QueueSample.objects.update(at=timezone.now() - timedelta(minutes=3))
        assert rate() == 1

    def test_pausing_and_resuming_are_heeded_and_on_record(self):
        user = make_staff(STEER)
        paused = api(user).post("/api/ops/queues/email/pause/")
        assert (paused.status_code, paused.json()["paused"]) == (200, True)
        assert ledger.paused_queues() == {"email"}
        assert api(user).post("/api/ops/queues/email/pause/").status_code == 200
        assert api(user).post("/api/ops/queues/email/resume/").json()["paused"] is False
        assert ledger.paused_queues() == set()
        entries = AuditEntry.objects.filter(model="celery_ledger.queueswitch", object_id="email").order_by("id")
        assert [entry.after for entry in entries] == [{"paused": True}, {"paused": False}]

    def test_who_did_it_is_on_record(self):
        user = make_staff(STEER)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {AccessToken.for_user(user)}", HTTP_X_REQUEST_ID="by-me")
        client.post("/api/ops/queues/email/pause/")
        entry = AuditEntry.objects.get(model="celery_ledger.queueswitch")
        assert (entry.who, entry.request_id) == (user, "by-me")

    def test_a_queue_that_is_none_is_not_found(self):
        response = api(make_staff(STEER)).post("/api/ops/queues/nowhere/pause/")
        assert (response.status_code, response.headers["Content-Type"]) == (404, "application/problem+json")


class TestLimits:
    def test_a_limit_is_kept_shown_on_record_and_taken_off_again(self):
        client = api(make_staff(STEER))
        set_to = client.post("/api/ops/queues/email/limits/", {"per_second": 2.5, "concurrency": 3}).json()
        assert (set_to["per_second"], set_to["concurrency"]) == (2.5, 3)
        assert limits.limited_queues() == {"email"}
        assert client.post("/api/ops/queues/email/limits/", {}).json()["per_second"] is None
        assert limits.limited_queues() == set()
        entries = AuditEntry.objects.filter(model="celery_ledger.queueswitch").order_by("id")
        assert [entry.after["concurrency"] for entry in entries] == [3, None]

    @pytest.mark.parametrize(
        "body",
        [
            {"per_second": 0},
            {"per_second": -1},
            {"per_second": "NaN"},
            {"per_second": "10"},
            {"per_second": True},
            {"per_second": 1e300},
            {"concurrency": 0},
            {"concurrency": 1.5},
            {"concurrency": True},
            {"burst": 1},
            [],
        ],
    )
    def test_a_limit_that_is_none_is_refused(self, body):
        assert api(make_staff(STEER)).post("/api/ops/queues/email/limits/", body).status_code == 400
        assert limits.limited_queues() == set()

    def test_the_rate_allows_no_more_than_has_passed(self):
        queues.limit("default", per_second=10, concurrency=None)
        QueueLimit.objects.update(counted_at=timezone.now() - timedelta(hours=1))
        for number in range(20):
            probe.make_collection.delay(f"{number}")
        assert len(limits.claim("default", room=100, lease=60)) == 2
        assert limits.claim("default", room=100, lease=60) == []

    def test_what_is_under_way_counts_until_it_has_ended(self):
        queues.limit("default", per_second=None, concurrency=2)
        for number in range(5):
            probe.make_collection.delay(f"{number}")
        rows = limits.claim("default", room=100, lease=60)
        assert len(rows) == 2
        assert limits.claim("default", room=100, lease=60) == []
        consumer.consume(probe.make_collection, [str(rows[0].id)])
        assert len(limits.claim("default", room=100, lease=60)) == 1


class TestPermissions:
    @pytest.mark.parametrize("address", ["queues/", "series/", "dead/", "dead/groups/"])
    def test_staff_may_look(self, address):
        assert api(make_staff()).get(f"/api/ops/{address}").status_code == 200

    @pytest.mark.parametrize(
        ("address", "body", "needed"),
        [
            ("queues/email/pause/", {}, STEER),
            ("queues/email/resume/", {}, STEER),
            ("queues/email/limits/", {"per_second": 1}, STEER),
            ("dead/{id}/replay/", {}, REPLAY),
            ("dead/{id}/discard/", {"reason": "no"}, DISCARD),
            ("dead/replay/", {"all": True}, REPLAY),
            ("dead/discard/", {"all": True, "reason": "no"}, DISCARD),
        ],
    )
    def test_each_action_takes_its_own_permission(self, address, body, needed):
        task = die("garden")
        address = f"/api/ops/{address.format(id=task.id)}"
        others = {REPLAY, DISCARD, EDIT, STEER} - {needed}

        assert api(make_staff(*others)).post(address, body).status_code == 403
        task.refresh_from_db()
        assert task.status == Status.DEAD
        assert ledger.paused_queues() == set()
        assert api(make_staff(needed)).post(address, body).status_code == 200

    @pytest.mark.parametrize("method", ["TRACE", "POST", "DELETE", "BREW"])
    @pytest.mark.parametrize("address", ["queues/", "series/", "problems/", "dead/", "dead/groups/"])
    def test_what_cannot_be_done_is_not_allowed(self, address, method):
        assert api(make_staff()).generic(method, f"/api/ops/{address}").status_code == 405

    def test_other_arguments_take_the_permission_to_change_tasks(self):
        task = die("garden")
        address = f"/api/ops/dead/{task.id}/replay/"
        assert api(make_staff(REPLAY)).post(address, {"args": ["yard"]}).status_code == 403
        assert api(make_staff(REPLAY, EDIT)).post(address, {"args": ["yard"]}).status_code == 200


class TestDeadLetters:
    def test_they_are_listed_with_what_they_were_given(self):
        task = die("garden")
        body = api(make_staff()).get("/api/ops/dead/").json()
        assert body["count"] == 1
        row = body["results"][0]
        assert row["id"] == str(task.id)
        assert row["task"] == "tests.make_collection"
        assert row["args"] == ["garden"]
        assert row["last_error"] == "PermissionError: no key to 'garden'"
        assert row["fingerprint"] == dead_letters.fingerprint_of_error(task.name, task.last_error)

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("task=tests.make_collection", 1),
            ("task=another", 0),
            ("queue=default", 1),
            ("queue=email", 0),
            ("search=key to", 1),
            ("search=lock", 0),
            ("subject=store.order:1", 0),
            ("fingerprint=0", 0),
        ],
    )
    def test_they_are_narrowed(self, query, found):
        die("garden")
        for address in ("dead/", "dead/groups/"):
            assert api(make_staff()).get(f"/api/ops/{address}?{query}").json()["count"] == found

    def test_a_failure_keeps_its_attempt(self):
        task = die("garden")
        attempt = FailedAttempt.objects.get(task=task)
        assert (attempt.number, attempt.error) == (1, "PermissionError: no key to 'garden'")
        assert attempt.published_at <= attempt.failed_at
        assert "Traceback" in attempt.traceback

    def test_an_error_that_no_database_can_keep_is_recorded_without_what_it_cannot(self):
        assert "nul \ufffd here" in die("garden", ValueError("nul \0 here")).last_error

    def test_replaying_one_runs_it_again(self):
        task = die("garden")
        probe.failing.clear()
        response = api(make_staff(REPLAY)).post(f"/api/ops/dead/{task.id}/replay/")
        assert (response.status_code, response.json()["status"]) == (200, "pending")
        drain()
        task.refresh_from_db()
        assert task.status == Status.SUCCEEDED

    def test_replaying_twice_replays_once(self):
        task = die("garden")
        address = f"/api/ops/dead/{task.id}/replay/"
        assert api(make_staff(REPLAY)).post(address).status_code == 200
        again = api(make_staff(REPLAY)).post(address)
        assert (again.status_code, again.json()["type"]) == (409, "urn:shopwire:problem:not-dead")
        assert AuditEntry.objects.filter(object_id=str(task.id)).count() == 1

    def test_a_task_that_is_none_is_not_found(self):
        address = "/api/ops/dead/00000000-0000-4000-8000-000000000000/"
        assert api(make_staff(REPLAY)).post(f"{address}replay/").status_code == 404
        assert api(make_staff(DISCARD)).post(f"{address}discard/").status_code == 404

    def test_editing_replays_with_other_arguments_and_keeps_both(self):
        task = die("garden")
        api(make_staff(REPLAY, EDIT)).post(f"/api/ops/dead/{task.id}/replay/", {"args": ["yard"]})
        drain()
        task.refresh_from_db()
        assert (task.status, task.args) == (Status.SUCCEEDED, ["yard"])
        entry = AuditEntry.objects.get(object_id=str(task.id))
        assert entry.before == {"status": "dead", "args": ["garden"], "kwargs": {}}
        assert entry.after == {"status": "pending", "args": ["yard"], "kwargs": {}}

    @pytest.mark.parametrize(
        "body",
        [
            {"args": []},
            {"args": ["a", "b"]},
            {"kwargs": {"size": 1}},
            {"args": "yard"},
            {"kwargs": []},
            {"argument": 1},
            [],
            "yard",
        ],
    )
    def test_arguments_that_do_not_fit_are_refused(self, body):
        task = die("garden")
        response = api(make_staff(REPLAY, EDIT)).post(f"/api/ops/dead/{task.id}/replay/", body)
        assert response.status_code == 400
        task.refresh_from_db()
        assert (task.status, task.args) == (Status.DEAD, ["garden"])

    def test_discarding_keeps_the_reason(self):
        task = die("garden")
        response = api(make_staff(DISCARD)).post(f"/api/ops/dead/{task.id}/discard/", {"reason": "the gate is gone"})
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
        assert response.json()["last_error"].startswith("Discarded: the gate is gone (PermissionError")
        assert AuditEntry.objects.get(object_id=str(task.id)).after["reason"] == "the gate is gone"
        assert api(make_staff(DISCARD)).post(f"/api/ops/dead/{task.id}/discard/").status_code == 409

    @pytest.mark.parametrize("reason", ["", "  ", 5, None, "x" * 301])
    def test_a_reason_that_is_none_is_refused(self, reason):
        task = die("garden")
        address = f"/api/ops/dead/{task.id}/discard/"
        assert api(make_staff(DISCARD)).post(address, {"reason": reason}).status_code == 400


class TestManyDeadLetters:
    def test_errors_that_differ_in_particulars_are_one_group(self):
        die("garden")
        die("yard")
        die("shed", KeyError("shed"))
        body = api(make_staff()).get("/api/ops/dead/groups/").json()
        assert [(group["count"], group["error"]) for group in body["results"]] == [
            (2, "PermissionError: no key to …"),
            (1, "KeyError: …"),
        ]

    def test_a_group_is_replayed_and_the_rest_stays_dead(self):
        rows = [die("garden"), die("yard"), die("shed", KeyError("shed"))]
        group = dead_letters.fingerprint_of_error(rows[0].name, rows[0].last_error)
        response = api(make_staff(REPLAY)).post("/api/ops/dead/replay/", {"fingerprint": group})
        assert response.json() == {"count": 2}
        assert DurableTask.objects.get(status=Status.DEAD).id == rows[2].id
        assert AuditEntry.objects.filter(model="celery_ledger.durabletask").count() == 2

    def test_a_rate_spreads_them_over_time_longest_dead_first(self):
        many_dead(25)
        first = list(dead_letters.dead_tasks().values_list("id", flat=True))
        api(make_staff(REPLAY)).post("/api/ops/dead/replay/", {"all": True, "per_second": 10})
        due = dict(DurableTask.objects.filter(name="tests.make_collection").values_list("id", "available_at"))
        begun = due[first[0]]
        assert [round((due[id] - begun).total_seconds(), 1) for id in first] == [place / 10 for place in range(25)]
        assert len(ledger.claim({"default": 100}, lease=60, limit=100)) < 10

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"all": False},
            {"all": True, "task": "tests.make_collection"},
            {"ids": []},
            {"ids": ["nonsense"]},
            {"all": True, "per_second": 0},
            {"all": True, "per_second": -1},
            {"all": True, "per_second": 1e300},
            {"all": True, "per_second": None},
            [],
        ],
    )
    def test_what_makes_no_sense_is_refused(self, body):
        many_dead(1)
        assert api(make_staff(REPLAY)).post("/api/ops/dead/replay/", body).status_code == 400
        assert DurableTask.objects.get(name="tests.make_collection").status == Status.DEAD

    def test_many_are_discarded_with_a_reason_and_not_without(self):
        many_dead(5)
        discard = api(make_staff(DISCARD))
        assert discard.post("/api/ops/dead/discard/", {"all": True}).status_code == 400
        wish = {"task": "tests.make_collection", "reason": "a load test"}
        assert discard.post("/api/ops/dead/discard/", wish).json() == {"count": 5}
        assert tally.totals_by_queue()["default", "discarded"] == (5, 0)

    @pytest.mark.once
    def test_ten_thousand_are_grouped_soon_and_each_is_replayed_once(self):
        many_dead(10_000)
        browser = api(make_staff(REPLAY))
        browser.get("/api/ops/dead/groups/")

        def seconds_for_the_groups() -> float:
            began = timezone.now()
            body = browser.get("/api/ops/dead/groups/").json()
            took = (timezone.now() - began).total_seconds()
            assert body["results"][0]["count"] == 10_000
            return took

        least = best_of(seconds_for_the_groups, below=0.3, tries=15)
        print(f"the groups of 10,000 dead letters: {least * 1000:.0f} ms on {connection.vendor}")
        assert least < 0.3

        wish = {"all": True, "per_second": 5_000}
        assert browser.post("/api/ops/dead/replay/", wish).json() == {"count": 10_000}
        assert browser.post("/api/ops/dead/replay/", wish).json() == {"count": 0}
        assert AuditEntry.objects.filter(model="celery_ledger.durabletask").count() == 10_000
        due = DurableTask.objects.filter(name="tests.make_collection").order_by("available_at")
        # In portions: each begins when its turn has come, give or take what it takes to write it.
        assert (due.last().available_at - due.first().available_at).total_seconds() == pytest.approx(2, abs=0.7)


class TestSeries:
    def test_points_say_what_was_done_since_the_one_before(self):
        for age, done in ((120, 0), (60, 30), (0, 90)):
            QueueSample.objects.create(
                at=timezone.now() - timedelta(seconds=age),
                queue="email",
                pending=age,
                published=1,
                running=0,
                dead=2,
                succeeded=done,
                failed=done // 10,
                lag=done * 0.5,
            )
        body = api(make_staff()).get("/api/ops/series/?step=60").json()
        points = {series["queue"]: series["points"] for series in body["queues"]}
        assert body["step_seconds"] == 60
        assert points["default"] == []
        assert [point["completed_per_minute"] for point in points["email"]] == pytest.approx([30, 60], rel=0.01)
        assert [point["failed_per_minute"] for point in points["email"]] == pytest.approx([3, 6], rel=0.01)
        assert [point["lag_seconds"] for point in points["email"]] == [0.5, 0.5]
        assert [point["pending"] for point in points["email"]] == [60, 0]

    @pytest.mark.parametrize("query", ["step=7", "minutes=0", "minutes=100000", "minutes=x", "step="])
    def test_what_makes_no_sense_is_refused(self, query):
        assert api(make_staff()).get(f"/api/ops/series/?{query}").status_code == 400
