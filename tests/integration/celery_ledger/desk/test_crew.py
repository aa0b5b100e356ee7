"""Running processes: their reports, and instructions to them, over every interface."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db.models.functions import Now
from django.test import Client

from audit_trail.models import AuditEntry
from celery_ledger.desk import crew
from celery_ledger.models import Heartbeat, QueueSample
from celery_ledger.watch import heartbeats, watchdog
from tests.shop import api, make_user

pytestmark = pytest.mark.django_db(transaction=True)
Kind = Heartbeat.Kind
DOING = [{"task": "tests.ring", "tasks": 3, "id": "01a1fcf6-bbe3-7db3-82b6-1ff496c63ade", "seconds": 12.5}]


@pytest.fixture
def worker(settings):
    settings.LEDGER_RELEASE = "2026.11"
    heartbeats.beat(Kind.WORKER, queues=["email"], active=1, received=5, memory=64 * 2**20, doing=DOING)
    return heartbeats.own_name(Kind.WORKER)


@pytest.fixture
def steersman():
    user = make_user(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["change_queueswitch", "view_heartbeat"]))
    return user


def outbox(*arguments: str) -> str:
    out = StringIO()
    call_command("outbox", *arguments, stdout=out)
    return out.getvalue()


def tell(user, process, what):
    return api(user).post(f"/api/ops/processes/{process}/tell/", {"what": what})


def grow_silent(process):
    Heartbeat.objects.filter(process=process).update(beaten_at=Now() - timedelta(minutes=1))


class TestWhoIsThere:
    def test_a_worker_is_shown_with_what_it_does_and_for_how_long(self, worker, steersman):
        [row] = api(steersman).get("/api/ops/processes/").json()["results"]

        assert (row["process"], row["kind"], row["state"], row["problem"]) == (worker, "worker", "ok", "")
        assert row["machine"] == worker.partition(" at ")[2]
        assert (row["queues"], row["release"], row["memory"]) == (["email"], "2026.11", 64 * 2**20)
        assert row["doing"] == DOING

    def test_the_command_line_says_the_same(self, worker):
        [row] = json.loads(outbox("workers", "--json"))

        assert (row["process"], row["doing"]) == (worker, DOING)
        text = outbox("workers", "--kind", "worker")
        assert "release 2026.11  64 MB" in text
        assert "tests.ring 01a1fcf6-bbe3-7db3-82b6-1ff496c63ade and 2 more for 12.5 s" in text
        assert outbox("workers", "--kind", "relay") == "No process is running.\n"

    def test_a_process_of_an_older_release_says_less_and_breaks_nothing(self, steersman):
        Heartbeat.objects.create(process="worker 7 at old", kind=Kind.WORKER, state="ok", queues=["email"])
        [row] = api(steersman).get("/api/ops/processes/").json()["results"]

        assert (row["release"], row["memory"], row["doing"]) == ("", None, [])

    def test_one_that_is_silent_is_named(self, worker, steersman):
        heartbeats.beat(Kind.BEAT)
        grow_silent(worker)
        silent, beat = api(steersman).get("/api/ops/processes/").json()["results"]

        assert (silent["state"], silent["silent_seconds"] >= 60) == ("silent", True)
        assert f"{worker} has been silent since" in silent["problem"]
        assert (beat["kind"], beat["state"], beat["problem"]) == ("beat", "ok", "")

    def test_memory_is_that_of_processes_that_are_there(self):
        assert heartbeats.memory_of([]) is None


class TestTelling:
    def test_a_worker_is_drained_and_resumed_and_it_is_on_record(self, worker, steersman):
        assert tell(steersman, worker, "drain").json()["wish"] == "drain"
        assert heartbeats.beat(Kind.WORKER, received=5) == "drain"
        assert tell(steersman, worker, "drain").status_code == 200
        assert tell(steersman, worker, "resume").json()["wish"] == ""
        assert heartbeats.beat(Kind.WORKER, received=5) == ""

        entries = AuditEntry.objects.filter(model="celery_ledger.heartbeat", object_id=worker).order_by("id")
        assert [(entry.after, entry.who) for entry in entries] == [
            ({"wish": "drain"}, steersman),
            ({"wish": ""}, steersman),
        ]

    def test_a_worker_that_is_drained_takes_nothing_rightly(self, worker, steersman):
        heartbeats.beat(Kind.WORKER, queues=["email"], active=0, received=5)
        Heartbeat.objects.update(received_at=Now() - timedelta(minutes=1))
        zeros = dict.fromkeys(("pending", "running", "dead", "succeeded", "failed", "lag"), 0)
        for age in (1, 11):
            at = Now() - timedelta(seconds=age)
            QueueSample.objects.create(at=at, queue="email", published=3, messages=3, **zeros)
        assert "has taken no messages" in watchdog.of_workers()[0].text
        tell(steersman, worker, "drain")

        assert watchdog.of_workers() == []

    @pytest.mark.parametrize(("kind", "what"), [(Kind.RELAY, "drain"), (Kind.BEAT, "resume")])
    def test_only_workers_are_drained(self, kind, what, steersman):
        heartbeats.beat(kind)
        answer = tell(steersman, heartbeats.own_name(kind), what)

        assert (answer.status_code, answer.json()["detail"]) == (
            409,
            f"A {kind} cannot be drained. Stop it instead.",
        )
        assert tell(steersman, heartbeats.own_name(kind), "stop").status_code == 200

    def test_one_that_would_not_hear_it_is_told_nothing(self, steersman):
        heartbeats.beat(Kind.RELAY)
        own = heartbeats.own_name(Kind.RELAY)
        grow_silent(own)

        assert tell(steersman, own, "stop").status_code == 409
        assert Heartbeat.objects.get().wish == ""

    @pytest.mark.parametrize("body", [{}, {"what": "dance"}, {"what": "stop", "more": 1}, {"what": None}, []])
    def test_what_nobody_understands_is_refused(self, worker, steersman, body):
        assert api(steersman).post(f"/api/ops/processes/{worker}/tell/", body, format="json").status_code == 400
        assert Heartbeat.objects.get().wish == ""

    def test_a_process_that_is_none_is_not_found(self, steersman):
        assert tell(steersman, "worker 1 at nowhere", "stop").status_code == 404

    def test_a_process_that_starts_under_an_old_name_was_told_nothing(self, worker, steersman):
        tell(steersman, worker, "stop")
        heartbeats.begin(Kind.WORKER)

        assert heartbeats.beat(Kind.WORKER, received=0) == ""
        assert heartbeats.beat(Kind.WORKER, received=0) == ""

    def test_the_command_line_tells_too(self, worker):
        assert outbox("tell", worker, "drain") == f"{worker} is told to drain, and does so within seconds.\n"
        assert json.loads(outbox("tell", worker, "resume", "--json"))["wish"] == ""
        with pytest.raises(CommandError, match="There is no process 'worker 1 at nowhere'"):
            outbox("tell", "worker 1 at nowhere", "stop")


class TestTheAdmin:
    def test_staff_look_and_who_steers_tells(self, worker, steersman):
        browser = Client()
        browser.force_login(steersman)
        page = browser.get("/admin/celery_ledger/heartbeat/").content.decode()
        assert worker in page
        assert "tests.ring" in page

        said = browser.post("/admin/celery_ledger/heartbeat/", {"process": worker, "what": "drain"}, follow=True)
        assert "does so within seconds" in said.content.decode()
        assert Heartbeat.objects.get().wish == "drain"
        said = browser.post("/admin/celery_ledger/heartbeat/", {"process": worker, "what": "dance"}, follow=True)
        assert "This instruction is not possible." in said.content.decode()

    def test_who_does_not_steer_tells_nothing(self, worker):
        user = make_user(is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename="view_heartbeat"))
        browser = Client()
        browser.force_login(user)

        assert "<button name" not in browser.get("/admin/celery_ledger/heartbeat/").content.decode()
        refused = browser.post("/admin/celery_ledger/heartbeat/", {"process": worker, "what": "stop"})
        assert refused.status_code == 403
        assert Heartbeat.objects.get().wish == ""


def test_every_process_is_listed_with_its_problem_once(worker):
    heartbeats.beat(Kind.RELAY, heartbeats.BROKER_AWAY)

    assert [(each.kind, each.state) for each in crew.processes()] == [("worker", "ok"), ("relay", "broker away")]
