"""Any number of dead letters: replayed and discarded in portions, by a worker where a request would take too long."""

import json
from io import StringIO
from itertools import pairwise

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from audit_trail.models import AuditEntry
from celery_ledger import tasks
from celery_ledger.desk import dead_letters, decisions
from celery_ledger.desk.dead_letters import Selection
from celery_ledger.models import Decision, DurableTask
from celery_ledger.testing import drain
from tests import probe
from tests.dead_letters import many_dead
from tests.integration.operations.test_ops_api import DISCARD, REPLAY
from tests.shop import api, browser_of, make_staff

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status
#: One more than a statement of PostgreSQL's has room for.
MORE_THAN_PARAMETERS = 65_536
DEAD = "admin:celery_ledger_durabletask_dead"


def many_of_one_moment(number):
    """Put dead letters into the ledger that all died at once, by one statement where the database can."""
    if connection.vendor != "postgresql":
        many_dead(number)
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO celery_ledger_durabletask
                (id, name, queue, status, args, kwargs, attempts, completed_at, last_error)
            SELECT gen_random_uuid(), 'tests.make_collection', 'default', 'dead', '["shelf"]', '{}', 8, now(),
                   'OSError: [Errno 111] order ' || n || ' was refused'
            FROM generate_series(1, %s) AS n
            """,
            [number],
        )


def outbox(*arguments):
    out, progress = StringIO(), StringIO()
    call_command("outbox", *arguments, stdout=out, stderr=progress)
    return out.getvalue(), progress.getvalue()


def count(status):
    return DurableTask.objects.filter(name="tests.make_collection", status=status).count()


def test_a_kind_of_error_has_an_example():
    probe.give_up.delay("permanent")
    drain()
    [group] = dead_letters.groups()
    assert (group.error, group.example) == ("PermanentError: permanent", "PermanentError: permanent")


@pytest.mark.once
class TestMoreThanAStatementHolds:
    @pytest.mark.fault("F95")
    def test_the_desk_replays_them_all_and_says_how_far_it_is(self, monkeypatch):
        monkeypatch.setattr(decisions, "TURN", 1)
        many_of_one_moment(MORE_THAN_PARAMETERS)
        browser = api(make_staff(REPLAY))
        answer = browser.post("/api/ops/dead/replay/", {"all": True})
        assert answer.status_code == 202
        assert answer.json()["count"] == MORE_THAN_PARAMETERS
        address = f"/api/ops/decisions/{answer.json()['decision']}/"
        assert browser.get(address).json()["done"] == 0
        DurableTask.objects.filter(name="tests.make_collection").update(queue="email")
        seen = []
        while not (state := browser.get(address).json())["ended_at"]:
            seen.append(state["percent"])
            assert tasks.carry_out.run(answer.json()["decision"])["of"] == MORE_THAN_PARAMETERS
        assert seen == sorted(seen)
        assert len(set(seen)) > 1
        assert (state["done"], state["percent"]) == (MORE_THAN_PARAMETERS, 100)
        assert count(Status.PENDING) == MORE_THAN_PARAMETERS
        assert AuditEntry.objects.filter(model="celery_ledger.durabletask").count() == MORE_THAN_PARAMETERS

    @pytest.mark.fault("F95")
    def test_the_command_discards_them_all_and_says_how_far_it_is(self):
        many_of_one_moment(MORE_THAN_PARAMETERS)
        said, progress = outbox("discard", "--all", "--reason", "the warehouse burnt down")
        assert said == f"{MORE_THAN_PARAMETERS} discarded.\n"
        assert f"1000 of {MORE_THAN_PARAMETERS}" in progress
        assert count(Status.CANCELLED) == MORE_THAN_PARAMETERS

    def test_ids_are_taken_in_portions_too(self):
        many_of_one_moment(MORE_THAN_PARAMETERS)
        ids = list(dead_letters.dead_tasks().values_list("id", flat=True))
        assert dead_letters.replay(ids, per_second=10_000) == MORE_THAN_PARAMETERS
        due = DurableTask.objects.filter(name="tests.make_collection").order_by("available_at")
        assert (due.last().available_at - due.first().available_at).total_seconds() == pytest.approx(6.6, abs=2)

    def test_the_page_of_a_kind_lists_them(self):
        many_of_one_moment(MORE_THAN_PARAMETERS)
        browser = api(make_staff())
        (group,) = browser.get("/api/ops/dead/groups/").json()["results"]
        found = browser.get(f"/api/ops/dead/?fingerprint={group['fingerprint']}").json()
        assert group["count"] == found["count"] == MORE_THAN_PARAMETERS


class TestDecisions:
    @pytest.fixture(autouse=True)
    def few_are_many(self, monkeypatch):
        monkeypatch.setattr(decisions, "AT_ONCE", 5)
        monkeypatch.setattr(decisions, "PORTION", 4)

    def test_a_worker_carries_it_out(self):
        many_dead(10)
        answer = api(make_staff(DISCARD)).post("/api/ops/dead/discard/", {"all": True, "reason": "a flood"})
        assert answer.status_code == 202
        assert count(Status.DEAD) == 10
        drain()
        assert count(Status.CANCELLED) == 10
        decision = Decision.objects.get()
        assert (decision.done, decision.wanted, decision.percent) == (10, 10, 100)
        entries = AuditEntry.objects.filter(model="celery_ledger.durabletask")
        assert {(entry.who_id, entry.after["reason"]) for entry in entries} == {(decision.who, "a flood")}

    def test_few_are_decided_about_at_once(self):
        many_dead(5)
        answer = api(make_staff(DISCARD)).post("/api/ops/dead/discard/", {"all": True, "reason": "a puddle"})
        assert (answer.status_code, answer.json()) == (200, {"count": 5})
        assert not Decision.objects.exists()

    @pytest.mark.fault("F95")
    def test_a_second_run_of_it_decides_about_nothing_twice(self):
        many_dead(10)
        decision = decisions.begin(Decision.What.REPLAY, Selection())
        tasks.carry_out.run(decision.pk)
        DurableTask.objects.filter(name="tests.make_collection").update(status=Status.DEAD, completed_at=timezone.now())
        tasks.carry_out.run(decision.pk)
        assert count(Status.DEAD) == 10

    @pytest.mark.postgresql
    @pytest.mark.fault("F120")
    def test_a_portion_is_a_few_statements_and_looks_at_no_other_tasks(self, monkeypatch):
        monkeypatch.setattr(decisions, "PORTION", dead_letters.PORTION)
        many_dead(dead_letters.PORTION + 1)
        (group,) = dead_letters.groups()
        decision = decisions.begin(Decision.What.DISCARD, Selection(fingerprint=group.fingerprint), reason="moths")
        with CaptureQueriesContext(connection) as queries:
            assert list(decisions.steps(decision)) == [dead_letters.PORTION, dead_letters.PORTION + 1]
        said = [query["sql"] for query in queries]
        assert sum("INSERT INTO core_auditentry" in sql for sql in said) == 2
        assert not any("\"fingerprint\" = ''" in sql for sql in said)
        assert len(said) < 3 * 16

    def test_what_dies_after_the_decision_is_not_meant(self):
        many_dead(10)
        DurableTask.objects.update(completed_at="2030-01-31T08:00Z")
        decision = decisions.begin(Decision.What.REPLAY, Selection())
        many_dead(1)
        DurableTask.objects.filter(completed_at__lt="2030-01-31T08:00Z").update(completed_at="2030-01-31T09:00Z")
        tasks.carry_out.run(decision.pk)
        assert count(Status.DEAD) == 1

    def test_a_rate_goes_over_all_portions(self):
        many_dead(10)
        decision = decisions.begin(Decision.What.REPLAY, Selection(), per_second=2)
        tasks.carry_out.run(decision.pk)
        due = list(
            DurableTask.objects.filter(name="tests.make_collection")
            .order_by("available_at")
            .values_list("available_at", flat=True)
        )
        gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(due)]
        assert gaps == pytest.approx([0.5] * 9, abs=0.25)

    def test_those_without_a_time_of_death_are_meant_too(self):
        many_dead(6)
        DurableTask.objects.update(completed_at=None)
        outbox("replay", "--all")
        assert count(Status.PENDING) == 6

    def test_the_admin_shows_how_far_it_is(self):
        many_dead(10)
        client = browser_of(make_staff(REPLAY, "view_durabletask"))
        group = client.get(reverse(DEAD)).context["groups"][0]
        client.post(reverse(DEAD), {"fingerprint": group.fingerprint, "decision": "replay"})
        page = client.get(reverse(DEAD)).content.decode()
        assert "0 of 10" in page
        tasks.carry_out.run(Decision.objects.get().pk)
        assert "10 of 10" in client.get(reverse(DEAD)).content.decode()

    def test_whole_lists_of_the_admin_are_meant_by_their_filters(self):
        many_dead(10)
        DurableTask.objects.update(queue="email")
        many_dead(3)
        client = browser_of(make_staff(REPLAY, "view_durabletask"))
        one = str(DurableTask.objects.first().pk)
        wish = {"action": "replay", "_selected_action": [one], "select_across": "1"}
        address = reverse("admin:celery_ledger_durabletask_changelist")
        client.post(f"{address}?status__exact=pending", wish)
        client.post(f"{address}?status__exact=dead&queue=email", wish)
        decision = Decision.objects.get()
        assert (decision.selection, decision.wanted) == ({"queue": "email"}, 10)

    def test_the_command_takes_a_task_or_all_and_refuses_a_mix(self):
        many_dead(7)
        assert outbox("discard", "--task", "tests.make_collection", "--reason", "moths")[0] == "7 discarded.\n"
        with pytest.raises(Exception, match="Choose tasks"):
            outbox("discard", "--all", "--task", "tests.make_collection")
        with pytest.raises(Exception, match="Choose tasks"):
            outbox("discard")

    def test_decisions_are_listed_for_staff_and_forgotten_after_a_month(self):
        many_dead(6)
        decision = decisions.begin(Decision.What.REPLAY, Selection(task="tests.make_collection"), per_second=9)
        listed = api(make_staff()).get("/api/ops/decisions/").json()["results"]
        assert [(row["id"], row["selection"], row["per_second"], row["done"]) for row in listed] == [
            (decision.pk, {"task": "tests.make_collection"}, 9.0, 0)
        ]
        assert json.dumps(listed)
        Decision.objects.update(begun_at="2010-12-01T08:00Z")
        decisions.begin(Decision.What.REPLAY, Selection())
        assert not Decision.objects.filter(pk=decision.pk).exists()
        assert tasks.carry_out.run(decision.pk) == {"ended": True}


def test_what_died_in_an_older_release_is_sorted_by_kind_when_somebody_looks():
    many_dead(3)
    assert {group.count for group in dead_letters.groups()} == {3}
    assert not DurableTask.objects.filter(fingerprint="").exists()
