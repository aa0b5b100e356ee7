"""All limits in one list, with the tasks they hold back: by queue, task and key, over every interface."""

import json
from datetime import datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from audit_trail.models import AuditEntry
from celery_ledger.desk import limits, queues
from celery_ledger.models import DurableTask, TaskRate
from celery_ledger.rows import rates
from tests import probe
from tests.shop import api, make_staff, make_user
from webhooks.models import WebhookDelivery, WebhookEndpoint

pytestmark = pytest.mark.django_db(transaction=True)
STEER = "change_queueswitch"
NAME = probe.make_collection.name


@pytest.fixture
def seen():
    """What staff see."""
    return lambda: api(make_staff()).get("/api/ops/limits/").json()["results"]


def outbox(*arguments: str) -> str:
    out = StringIO()
    call_command("outbox", *arguments, stdout=out)
    return out.getvalue()


def hold(name: str, *, rows: int) -> None:
    ids = [probe.make_collection.delay(str(number)).id for number in range(rows)]
    DurableTask.objects.filter(id__in=ids).update(status="published")
    rates.hold(name, ids, per_second=1)


def test_there_are_none(seen):
    assert [limit for limit in seen() if limit["kind"] != "task"] == []
    assert outbox("limits", "--kind", "queue") == "There are no limits.\n"


def test_a_queues_limit_says_what_waits_behind_it(seen):
    queues.limit("default", per_second=0.5, concurrency=3)
    for title in "abcd":
        probe.make_collection.delay(title)
    probe.make_collection.apply_async(("later",), countdown=600)
    first = DurableTask.objects.order_by("id").first()
    DurableTask.objects.filter(pk=first.pk).update(status="published", lease_until=timezone.now() + timedelta(hours=1))

    [limit] = [limit for limit in seen() if limit["kind"] == "queue"]
    until = datetime.fromisoformat(limit.pop("until"))
    assert 1 < (until - timezone.now()).total_seconds() <= 6
    assert limit == {
        "kind": "queue",
        "name": "default",
        "per_second": 0.5,
        "concurrency": 3,
        "said": "0.5/s",
        "by_operator": True,
        "under_way": 1,
        "held_back": 3,
        "held_back_is": "exact",
    }


def test_a_tasks_rate_says_what_it_holds_back_and_until_when(seen):
    limits.limit_task(NAME, "30/m")
    hold(NAME, rows=11)
    TaskRate.objects.filter(name=NAME).update(allowance=1, counted_at=timezone.now())
    [limit] = [limit for limit in seen() if limit["name"] == NAME]

    assert (limit["kind"], limit["said"], limit["per_second"]) == ("task", "30/m", 0.5)
    assert (limit["held_back"], limit["by_operator"], limit["under_way"]) == (11, True, None)
    until = datetime.fromisoformat(limit["until"])
    assert 15 < (until - timezone.now()).total_seconds() <= 20
    assert f"task  {NAME}  30/m  11 held back until " in outbox("limits")


def test_more_than_are_counted_are_said_to_be_at_least_so_many(monkeypatch, seen):
    monkeypatch.setattr(limits, "MOST_COUNTED", 2)
    limits.limit_task(NAME, "1/h")
    hold(NAME, rows=3)
    [limit] = [limit for limit in seen() if limit["name"] == NAME]

    assert (limit["held_back"], limit["held_back_is"]) == (2, "at least")


def test_the_rate_that_the_code_says_is_listed_as_the_codes(monkeypatch, seen):
    monkeypatch.setattr(probe.ring, "rate_limit", "10/m")
    [limit] = [limit for limit in seen() if limit["name"] == "tests.ring"]

    assert (limit["said"], limit["by_operator"], limit["held_back"], limit["until"]) == ("10/m", False, 0, None)
    limits.limit_task("tests.ring", "0")
    assert [limit for limit in seen() if limit["name"] == "tests.ring"] == []


def test_an_endpoints_waiting_deliveries_are_held_back_by_its_key(seen, settings):
    settings.WEBHOOK_CONCURRENCY = 2
    endpoint, idle = (WebhookEndpoint.objects.create(url="https://a.example", events=[]) for _ in range(2))
    deliveries = [
        WebhookDelivery.objects.create(endpoint=each, message_id=f"msg_{number}", event="webhook.test", body="{}")
        for number, each in enumerate([endpoint] * 4 + [idle])
    ]
    WebhookDelivery.objects.filter(pk=deliveries[0].pk).update(claimed_until=timezone.now() + timedelta(minutes=1))
    WebhookDelivery.objects.filter(pk__in=[each.pk for each in deliveries[1:4]]).update(waiting=True)

    [limit] = [limit for limit in seen() if limit["kind"] == "key"]
    assert limit["name"] == f"webhooks.webhookendpoint:{endpoint.pk}"
    assert (limit["concurrency"], limit["under_way"], limit["held_back"]) == (2, 1, 3)


class TestSettingARate:
    def post(self, user, rate, task=NAME):
        return api(user).post(f"/api/ops/limits/tasks/{task}/", {"rate": rate})

    def test_it_is_kept_listed_on_record_and_taken_off_again(self, monkeypatch):
        monkeypatch.setattr(probe.make_collection, "rate_limit", "100/m")
        user = make_staff(STEER)
        assert self.post(user, "10/m").json() == {"task": NAME, "rate": "10/m", "own_rate": "100/m"}
        assert rates.changed() == {NAME: "10/m"}
        assert self.post(user, None).json()["rate"] is None
        assert rates.changed() == {}

        entries = AuditEntry.objects.filter(model="celery_ledger.taskrate").order_by("pk")
        assert [(entry.object_id, entry.before, entry.after, entry.who_id) for entry in entries] == [
            (NAME, {"rate": None}, {"rate": "10/m"}, user.pk),
            (NAME, {"rate": "10/m"}, {"rate": None}, user.pk),
        ]

    def test_the_same_again_changes_nothing(self):
        user = make_staff(STEER)
        for _ in range(2):
            assert self.post(user, "5/m").status_code == 200
        assert AuditEntry.objects.filter(model="celery_ledger.taskrate").count() == 1

    @pytest.mark.parametrize("rate", ["often", "-1/s", "", 5, "1/w"])
    def test_what_is_no_rate_is_refused(self, rate):
        assert self.post(make_staff(STEER), rate).status_code == 400
        assert rates.changed() == {}

    def test_what_is_no_durable_task_is_not_found(self):
        assert self.post(make_staff(STEER), "1/m", "tests.nothing").status_code == 404
        assert not TaskRate.objects.exists()

    def test_it_needs_the_permission(self):
        assert self.post(make_staff(), "1/m").status_code == 403
        assert self.post(make_user(), "1/m").status_code == 403
        assert rates.changed() == {}

    def test_the_command_line_does_the_same(self, monkeypatch):
        monkeypatch.setattr(probe.make_collection, "rate_limit", "100/m")
        assert outbox("rate", NAME, "10/m") == f"{NAME} is limited to 10/m.\n"
        [limit] = [each for each in json.loads(outbox("limits", "--json")) if each["name"] == NAME]
        assert (limit["said"], limit["held_back"], limit["held_back_is"]) == ("10/m", 0, "exact")
        assert outbox("rate", NAME, "0") == f"{NAME} is not limited.\n"
        assert json.loads(outbox("rate", NAME, "--json")) == {"task": NAME, "rate": None, "own_rate": "100/m"}
        with pytest.raises(CommandError, match="no durable task"):
            outbox("rate", "tests.nothing", "1/m")
        with pytest.raises(CommandError, match="A rate is"):
            outbox("rate", NAME, "often")
