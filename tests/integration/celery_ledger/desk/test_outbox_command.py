"""``manage.py outbox``: its output and its actions."""

import json
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django_celery_results.models import TaskResult

from celery_ledger import promises, tasks
from celery_ledger.desk import dead_letters
from celery_ledger.models import DurableTask
from celery_ledger.rows import ledger
from celery_ledger.testing import drain
from tests import probe

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status


def outbox(*arguments: str) -> str:
    out = StringIO()
    call_command("outbox", *arguments, stdout=out)
    return out.getvalue()


def queue(name: str) -> dict:
    return {state["queue"]: state for state in json.loads(outbox("stats", "--json"))}[name]


@pytest.fixture
def dead():
    """Return the ids of three dead letters of two tasks."""
    probe.give_up.delay("permanent")
    probe.give_up.delay("division")
    probe.failing["garden"] = PermissionError("no key")
    probe.make_collection.apply_async(("garden",))
    drain()
    DurableTask.objects.filter(name="tests.make_collection").update(
        status=Status.DEAD, completed_at="2010-12-01T08:00Z"
    )
    return [str(id) for id in DurableTask.objects.filter(status=Status.DEAD).values_list("id", flat=True)]


class TestStats:
    def test_every_queue_is_named_even_if_it_is_empty(self):
        assert [line.split()[0] for line in outbox("stats").splitlines()[1:]] == [
            "default",
            "email",
            "inventory",
            "analytics",
            "notifications",
            "webhooks",
            "scheduled",
        ]

    def test_rows_are_counted_by_status(self):
        for title in "abc":
            probe.make_collection.delay(title)
        ledger.claim({"default": 1}, lease=60, limit=10)
        assert (queue("default")["pending"], queue("default")["published"]) == (2, 1)
        assert queue("default")["oldest_pending_seconds"] >= 0
        assert queue("email")["oldest_pending_seconds"] is None

    def test_what_was_done_in_the_last_minute_is_counted(self):
        probe.make_collection.delay("a")
        drain()
        assert queue("default")["completed_per_minute"] == 1


class TestDeadLetters:
    def test_they_are_listed_with_their_errors(self, dead):
        listed = json.loads(outbox("dead", "--json"))
        assert sorted(row["id"] for row in listed) == sorted(dead)
        assert {row["last_error"] for row in listed} >= {"PermanentError: permanent", "ZeroDivisionError: division"}

    def test_replay_takes_ids_or_a_task_or_all_and_refuses_a_mix(self, dead):
        given_up = DurableTask.objects.filter(name="tests.give_up", status=Status.DEAD).first()
        assert outbox("replay", str(given_up.id)) == "1 replayed.\n"
        assert outbox("replay", "--task", "tests.make_collection") == "1 replayed.\n"
        assert outbox("replay", "--all") == "1 replayed.\n"
        assert not DurableTask.objects.filter(status=Status.DEAD).exists()
        with pytest.raises(CommandError, match="Choose tasks"):
            outbox("replay", dead[0], "--all")
        with pytest.raises(CommandError, match="Choose tasks"):
            outbox("replay")

    def test_an_id_that_is_no_dead_letter_is_named(self, dead):
        outbox("replay", "--all")
        with pytest.raises(CommandError, match="1 of the ids are not dead letters"):
            outbox("replay", dead[0])
        with pytest.raises(CommandError, match="not a task id"):
            outbox("discard", "nonsense")

    def test_discarding_keeps_the_row_and_the_reason(self, dead):
        outbox("discard", dead[0], "--reason", "the shop closed")
        task = DurableTask.objects.get(id=dead[0])
        assert task.status == Status.CANCELLED
        assert task.last_error.startswith("Discarded: the shop closed (")

    def test_they_are_listed_for_people(self, dead):
        lines = outbox("dead").splitlines()
        assert {UUID(line.split()[0]) for line in lines} == set(map(UUID, dead))
        assert "tests.give_up  1 attempts  PermanentError: permanent" in outbox("dead")

    def test_that_there_are_none_is_said(self):
        assert outbox("dead") == "There are no dead letters.\n"

    @pytest.mark.parametrize("what", [["replay"], ["discard", "--reason", "of no use"]])
    def test_ids_that_are_none_are_counted_and_the_others_done(self, dead, what):
        with pytest.raises(CommandError, match="1 of the ids are not dead letters"):
            outbox(*what, dead[0], "00000000-0000-7000-8000-000000000000")
        assert DurableTask.objects.filter(status=Status.DEAD).count() == len(dead) - 1

    def test_one_that_is_revived_meanwhile_is_not_replayed_with_other_arguments(self, dead):
        assert dead_letters.replay([UUID(dead[0])]) == 1
        assert not dead_letters.replay_edited(UUID(dead[0]), args=["other"], kwargs={})

    def test_one_of_a_task_that_is_gone_is_not_replayed_with_other_arguments(self, dead):
        DurableTask.objects.filter(pk=dead[0]).update(name="tests.of_the_last_release")
        with pytest.raises(LookupError, match=r"There is no task 'tests.of_the_last_release' here"):
            dead_letters.replay_edited(UUID(dead[0]), args=["other"], kwargs={})

    def test_addresses_of_people_do_not_tell_kinds_of_errors_apart(self):
        assert dead_letters.kind_of("550 ada@shop.example is gone") == dead_letters.kind_of("550 bob@b.example is gone")

    def test_one_that_says_nothing_breaks_a_promise(self, dead):
        DurableTask.objects.filter(pk=dead[0]).update(last_error="")
        out = StringIO()
        with pytest.raises(CommandError, match="1 violations of 1 promises"):
            call_command("outbox", "verify", stdout=out)
        assert dead[0] in out.getvalue()


class TestPausing:
    def test_a_paused_queue_keeps_its_tasks(self):
        outbox("pause", "email")
        assert ledger.paused_queues() == {"email"}
        assert queue("email")["paused"]
        outbox("pause", "email")
        outbox("resume", "email")
        assert ledger.paused_queues() == set()

    def test_a_queue_that_is_none_is_refused(self):
        with pytest.raises(CommandError, match="no queue 'nowhere'"):
            outbox("pause", "nowhere")


class TestPruning:
    @pytest.mark.parametrize(
        "prune",
        [lambda: int(outbox("prune", "--older-than", "1d").split()[0]), tasks.prune.run],
        ids=["command", "task"],
    )
    def test_it_deletes_what_ended_well_long_ago_with_its_result_and_nothing_else(self, dead, prune):
        for title in "ab":
            probe.make_collection.delay(title)
        drain()
        old = DurableTask.objects.filter(status=Status.SUCCEEDED).order_by("id").first()
        DurableTask.objects.filter(id=old.id).update(id="01000000-0000-7000-8000-000000000000")
        TaskResult.objects.filter(task_id=str(old.id)).update(task_id="01000000-0000-7000-8000-000000000000")
        DurableTask.objects.update(completed_at="2010-12-01T08:00Z")
        assert prune() == 1
        assert DurableTask.objects.filter(status=Status.SUCCEEDED).count() == 1
        assert DurableTask.objects.filter(status=Status.DEAD).count() == len(dead)
        assert not TaskResult.objects.filter(task_id__startswith="01000000").exists()

    def test_a_dry_run_counts_and_deletes_nothing(self):
        old, _ = probe.make_collection.delay("old"), probe.make_collection.delay("new")
        drain()
        DurableTask.objects.filter(id=old.id).update(id="01000000-0000-7000-8000-000000000000")
        DurableTask.objects.update(completed_at="2010-12-01T08:00Z")
        said = "Nothing was changed. Without --dry-run: 1 task deleted.\n"
        assert outbox("prune", "--older-than", "1d", "--dry-run") == said
        assert json.loads(outbox("prune", "--older-than", "1d", "--dry-run", "--json")) == {"count": 1, "dry_run": True}
        assert DurableTask.objects.count() == 2
        assert json.loads(outbox("prune", "--older-than", "1d", "--json")) == {"count": 1}

    @pytest.mark.parametrize("age", ["", "7", "d", "1 week", "-1d"])
    def test_an_age_that_cannot_be_read_is_refused(self, age):
        with pytest.raises(CommandError, match="number and a unit"):
            outbox("prune", f"--older-than={age}")


class TestVerifying:
    def test_it_is_content_when_every_promise_is_kept(self):
        assert "broken" not in outbox("verify")

    def test_a_task_that_is_overdue_is_named(self):
        handle = probe.make_collection.delay("a")
        DurableTask.objects.update(available_at="2010-12-01T08:00Z")
        out = StringIO()
        with pytest.raises(CommandError, match="1 violations of 1 promises"):
            call_command("outbox", "verify", stdout=out)
        assert handle.id in out.getvalue()

    def test_tasks_of_a_paused_queue_are_not_overdue(self):
        probe.make_collection.delay("a")
        DurableTask.objects.update(available_at="2010-12-01T08:00Z")
        outbox("pause", "default")
        assert "No task is stuck" in outbox("verify")

    def test_a_promise_can_be_registered_once(self):
        with pytest.raises(ValueError, match="registered already"):
            promises.register("No task is stuck: each has ended, is due later, or is in progress.", list)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--per-second", "5"], "email is limited to 5 tasks a second."),
        (["--concurrency", "2"], "email is limited to 2 at once."),
        (["--per-second", "0.5", "--concurrency", "2"], "email is limited to 0.5 tasks a second, 2 at once."),
        ([], "The limit is removed."),
    ],
)
def test_a_queue_is_limited_and_no_longer(options, said):
    assert outbox("limit", "email", *options) == f"{said}\n"
    state = queue("email")
    assert bool(state["per_second"] or state["concurrency"]) is bool(options)


@pytest.mark.parametrize(
    ("change", "said", "fact"),
    [
        (["pause", "email"], "email is paused: its tasks wait in the ledger.", {"paused": True}),
        (["limit", "email", "--per-second", "5"], "email is limited to 5 tasks a second.", {"per_second": 5.0}),
        (["rate", "tests.make_collection", "10/s"], "tests.make_collection is limited to 10/s.", {"rate": "10/s"}),
    ],
)
def test_a_change_that_is_only_tried_changes_nothing(change, said, fact):
    before = json.loads(outbox("stats", "--json")), json.loads(outbox("limits", "--json"))
    assert outbox(*change, "--dry-run") == f"Nothing was changed. Without --dry-run: {said}\n"
    tried = json.loads(outbox(*change, "--dry-run", "--json"))
    assert tried["dry_run"] is True
    assert tried.items() >= fact.items()
    assert (json.loads(outbox("stats", "--json")), json.loads(outbox("limits", "--json"))) == before
    done = json.loads(outbox(*change, "--json"))
    assert done.items() >= fact.items()
    assert (json.loads(outbox("stats", "--json")), json.loads(outbox("limits", "--json"))) != before


def test_the_audit_is_told_to_machines_too():
    answer = json.loads(outbox("verify", "--json"))
    assert answer["ok"] is True
    assert set(answer["promises"]) == set(promises.promises())


@pytest.mark.parametrize("option", ["--per-second=-1", "--per-second=0", "--concurrency=0"])
def test_a_limit_that_is_none_is_refused(option):
    with pytest.raises(CommandError, match="must be"):
        outbox("limit", "email", option)


class TestFinding:
    def test_tasks_are_listed_counted_and_told_in_json(self, dead):
        rows = [json.loads(line) for line in outbox("tasks", "--status", "dead", "--json").splitlines()]
        assert {UUID(row["id"]) for row in rows} == set(map(UUID, dead))
        assert json.loads(outbox("tasks", "--argument", "garden", "--count", "--json")) == {
            "count": 1,
            "count_is": "exact",
        }
        garden = next(row for row in rows if row["args"] == ["garden"])
        assert "PermissionError" in outbox("tasks", "--argument", "garden")
        life = json.loads(outbox("task", garden["id"], "--json"))
        assert {event["kind"] for event in life["events"]} == {"enqueued", "published", "failed", "died"}
        assert "Traceback" in outbox("task", garden["id"])
        assert outbox("tasks", "--newer-than", "1s", "--queue", "nowhere") == "No tasks found.\n"

    def test_what_filters_find_is_counted_first_and_then_decided_about(self, dead):
        chosen = ("replay", "--argument", "garden")
        assert outbox(*chosen, "--dry-run") == "1 would be replayed.\n"
        assert json.loads(outbox(*chosen, "--json")) == {"count": 1}
        later = probe.ring.apply_async(("bell",), countdown=600)
        assert outbox("run-now", "--status", "scheduled", "--dry-run") == "1 would be run now.\n"
        assert outbox("run-now", later.id) == "1 run now.\n"
        with pytest.raises(CommandError, match="do not wait"):
            outbox("run-now", later.id)
        assert outbox("cancel", "--argument", "bell", "--reason", "a test") == "1 cancelled.\n"
        for nothing in (("run-now",), ("replay", "--all", "--error", "x"), ("tasks", "--newer-than", "soon")):
            with pytest.raises(CommandError):
                outbox(*nothing)
