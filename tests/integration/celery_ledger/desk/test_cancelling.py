"""A task that is cancelled before it has run never runs; a running one is not reported as revoked."""

import asyncio
import threading
import uuid
from io import StringIO
from unittest import mock

import celery.app.control
import pytest
from celery import chord, signals
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse
from django_celery_results.models import TaskResult

import celery_ledger
from audit_trail.models import AuditEntry
from celery_ledger.desk import cancelling, control, processes, remote
from celery_ledger.models import DurableTask
from celery_ledger.relay import expiring
from celery_ledger.rows import ledger, tally
from celery_ledger.testing import drain
from celery_ledger.work import consumer
from store.models import Collection
from tests import probe
from tests.by_hand import publish, take
from tests.shop import api, browser_of, make_staff
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status
CANCEL = "cancel_durabletask"


def outbox(*arguments):
    out = StringIO()
    call_command("outbox", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def published(title):
    """Enqueue a task and have it at the broker."""
    handle = probe.make_collection.delay(title)
    ledger.claim({"default": 10}, lease=60, limit=10)
    return handle


def running(bell):
    """Have a task with effects outside the database begin, as a worker does; return its row as well."""
    handle = probe.ring.delay(bell)
    ledger.claim({"default": 10}, lease=60, limit=10)
    return handle, ledger.start(uuid.UUID(handle.id), lease=60, limit_of=lambda name: 8)


@pytest.fixture(autouse=True)
def told(monkeypatch):
    """What workers are told, of whom there are none here."""
    told = []
    monkeypatch.setattr(processes, "tell_all", lambda ids, **how: told.append((ids, how)))
    return told


class TestRevoke:
    @pytest.mark.fault("F98")
    @pytest.mark.parametrize("enqueue", [probe.make_collection.delay, published], ids=["pending", "published"])
    def test_a_revoked_task_never_runs_and_its_result_says_so(self, enqueue):
        handle = enqueue("garden")
        handle.revoke()
        task = DurableTask.objects.get()
        assert (task.status, task.last_error) == (Status.CANCELLED, "Cancelled: revoked")
        assert task.completed_at is not None
        drain()
        assert ledger.lapse_expired() == 0
        consumer.consume(probe.make_collection, [handle.id])
        assert probe.seen == []
        assert AsyncResult(handle.id).state == "REVOKED"
        with pytest.raises(TaskRevokedError):
            AsyncResult(handle.id).get(timeout=1)

    @pytest.mark.fault("F98")
    @pytest.mark.parametrize("task", [probe.make_collection, probe.make_collections], ids=["slice", "batch"])
    def test_one_that_waits_in_a_message_of_several_does_not_run_and_the_others_do(self, task):
        handles = [task.delay(title) for title in ("garden", "yard", "shed")]
        ids = publish()
        handles[1].revoke()
        assert take(task, ids) == "2 succeeded, 0 failed, 1 passed over"
        assert [handle.state for handle in handles] == ["SUCCESS", "REVOKED", "SUCCESS"]
        assert set(Collection.objects.values_list("title", flat=True)) == {"garden", "shed"}

    @pytest.mark.fault("F98")
    def test_one_that_runs_is_let_end_unless_it_is_to_be_terminated(self):
        handle, row = running("bell")
        assert app.control.revoke(handle.id, reply=True) == [{"ledger": {"ok": "0 cancelled, 1 running, 0 had ended"}}]
        assert DurableTask.objects.get().status == Status.RUNNING
        assert not TaskResult.objects.filter(status="REVOKED").exists()
        assert ledger.finish(row)

    def test_one_that_has_ended_stays_as_it_is(self):
        handle = probe.make_collection.delay("garden")
        drain()
        assert app.control.revoke(handle.id, reply=True) == [{"ledger": {"ok": "0 cancelled, 0 running, 1 had ended"}}]
        assert AsyncResult(handle.id).state == "SUCCESS"

    @pytest.mark.parametrize("id", ["59e34141-bec6-4b72-a71a-31f0d7fdb03e", "nonsense", None])
    def test_what_the_ledger_does_not_know_is_passed_over(self, id, caplog):
        handle = probe.make_collection.delay("garden")
        app.control.revoke([id, handle.id])
        assert "The ledger has no task" in caplog.text
        assert DurableTask.objects.get().status == Status.CANCELLED

    def test_it_is_part_of_the_callers_transaction(self):
        handle = probe.make_collection.delay("garden")
        with pytest.raises(RuntimeError), transaction.atomic():
            handle.revoke()
            raise RuntimeError("no")
        drain()
        assert probe.seen == ["garden"]

    def test_many_at_once(self):
        handles = [probe.make_collection.delay(title) for title in "abc"]
        app.control.revoke([handle.id for handle in handles])
        assert set(DurableTask.objects.values_list("status", flat=True)) == {Status.CANCELLED}

    @pytest.mark.postgresql
    def test_it_can_be_said_from_within_an_event_loop_as_flower_does(self):
        handle = probe.make_collection.delay("garden")

        async def revoke():
            app.control.revoke(handle.id)

        asyncio.run(revoke())
        assert DurableTask.objects.get().status == Status.CANCELLED


class TestPurge:
    """Celery's ``app.control.purge``: waiting tasks are cancelled permanently, and do not come back."""

    @pytest.fixture
    def messages(self, monkeypatch):
        """How many messages there are to erase, of which the broker of no test has any."""
        monkeypatch.setattr(celery.app.control.Control, "purge", lambda self, connection: 3)

    @pytest.mark.parametrize("word", ["purge", "discard_all"])
    def test_what_waits_in_the_app_s_queues_never_runs(self, messages, word):
        (_, begun), at_the_broker = running("bell"), published("garden")
        due = probe.make_collection.delay("house")
        later = probe.make_collection.apply_async(["later"], countdown=60)
        elsewhere = probe.make_collection.delay("elsewhere")
        DurableTask.objects.filter(id=elsewhere.id).update(queue="of_another_app")
        held = probe.make_collection.apply_async(["held"], countdown=60)
        DurableTask.objects.filter(id=held.id).update(held_since=Now())
        assert getattr(app.control, word)() == 3
        cancelled = DurableTask.objects.filter(status=Status.CANCELLED, last_error="Cancelled: purged")
        assert {str(task.id) for task in cancelled} == {at_the_broker.id, due.id, held.id}
        waiting = DurableTask.objects.filter(status=Status.PENDING)
        assert {str(task.id) for task in waiting} == {later.id, elsewhere.id}
        assert ledger.finish(begun)
        assert at_the_broker.state == "REVOKED"
        assert app.control.purge() == 0

    def test_beside_them_messages_of_others_are_counted(self, messages, monkeypatch):
        monkeypatch.setattr(control, "are_all_durable", lambda app: False)
        probe.make_collection.delay("house")
        assert app.control.purge() == 1 + 3


class TestTerminate:
    """Running tasks: here they have no process, so only their rows can be ended."""

    @pytest.mark.fault("F130")
    def test_a_success_that_comes_late_is_not_recorded(self, told):
        handle, row = running("bell")
        assert celery_ledger.cancel(handle.id, reason="a test", terminate=True) == 1
        assert told == [([row.id], {"reason": "a test", "signum": 15})]
        assert not ledger.renew(row, lease=60)
        assert not ledger.finish(row)
        assert not ledger.fail(row, "again", dead=False, delay=0, counted=True)
        assert ledger.lapse_expired() == 0
        task = DurableTask.objects.get()
        assert (task.status, task.last_error, task.lease_until) == (Status.CANCELLED, "Cancelled: a test", None)
        assert handle.state == "REVOKED"
        entry = AuditEntry.objects.get(model="celery_ledger.durabletask")
        assert (entry.before, entry.after) == ({"status": "running"}, {"status": "cancelled", "reason": "a test"})

    def test_in_a_transaction_processes_are_told_when_it_has_committed(self, told):
        handle, row = running("bell")
        with pytest.raises(RuntimeError), transaction.atomic():
            handle.revoke(terminate=True)
            raise RuntimeError("no")
        assert told == []
        with transaction.atomic():
            handle.revoke(terminate=True)
            assert told == []
        assert [ids for ids, _ in told] == [[row.id]]
        assert not ledger.finish(row)

    def test_a_queryset_or_a_filter_says_which(self):
        running("bell")
        for title in ("garden", "yard"):
            probe.make_collection.delay(title)
        assert celery_ledger.cancel(Q(name="tests.make_collection", args=["yard"]), reason="a test") == 1
        assert celery_ledger.cancel(DurableTask.objects.all(), reason="a test") == 1
        assert celery_ledger.cancel(DurableTask.objects.all(), reason="a test", terminate=True) == 1

    def test_no_reason_and_no_signal_are_refused(self):
        for which, how in (([], {"reason": " "}), ([], {"terminate": True, "signal": "NONE"})):
            with pytest.raises(ValueError, match=r"Say why|no signal"):
                celery_ledger.cancel(which, **{"reason": "a test", **how})

    @pytest.mark.fault("F98")
    def test_receivers_of_task_revoked_are_told_of_each_row_when_it_is_committed(self):
        heard = []

        def hear(sender, request, terminated, signum, expired, **kwargs):
            heard.append((sender.name, request.id, list(request.args), terminated, signum, expired))

        signals.task_revoked.connect(hear)
        try:
            waiting, late = probe.make_collection.delay("garden"), probe.go_last.apply_async(("yard",), expires=-1)
            (begun, _) = running("bell")
            with transaction.atomic():
                celery_ledger.cancel([waiting.id, begun.id], reason="a test", terminate=True)
                assert heard == []
            expiring.cancel_expired()
        finally:
            signals.task_revoked.disconnect(hear)
        assert heard == [
            ("tests.make_collection", waiting.id, ["garden"], False, None, False),
            ("tests.ring", begun.id, ["bell"], True, 15, False),
            ("tests.go_last", late.id, ["yard"], False, None, True),
        ]


@pytest.mark.postgresql
@pytest.mark.fault("F130")
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
def test_f130_a_race_with_completion_has_one_winner_and_the_state_says_which(inside):
    task = probe.make_collection if inside else probe.ring
    probe.seen.clear()
    handles = [task.delay(f"race {number}") for number in range(60)]
    ledger.claim({"default": 100}, lease=60, limit=100)
    start, told = threading.Barrier(2), []

    def work():
        start.wait()
        for handle in handles:
            consumer.consume(task, [handle.id])
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    start.wait()
    for handle in reversed(handles[:50]):
        told.append((handle.id, celery_ledger.cancel(handle.id, reason="a race", terminate=not inside)))
    worker.join()
    cancelled = {id for id, count in told if count}
    assert 0 < len(cancelled) < 50
    statuses = {str(task.id): task.status for task in DurableTask.objects.all()}
    for handle in handles:
        ended = (Status.CANCELLED, "REVOKED") if handle.id in cancelled else (Status.SUCCEEDED, "SUCCESS")
        assert (statuses[handle.id], handle.state) == ended
    if inside:  # What was cancelled has left nothing behind.
        assert Collection.objects.count() == 60 - len(cancelled)


class TestRemoteControl:
    """Celery's command for workers, as ``celery control revoke`` and older clients send it."""

    @pytest.mark.fault("F98")
    def test_a_worker_cancels_the_row_instead_of_writing_revoked(self):
        from celery.worker.control import Panel

        assert Panel.data["revoke"] is remote.revoke
        waiting, (begun, row) = published("garden"), running("bell")
        assert remote.revoke(None, waiting.id) == {"ok": "1 cancelled, 0 running, 0 had ended"}
        worker = mock.Mock()
        said = "1 cancelled, 0 running, 0 had ended, 0 told to end here"
        assert remote.terminate(worker, "KILL", [begun.id]) == {"ok": said}
        assert not ledger.finish(row)
        assert remote.terminate(worker, "NONE", [begun.id]) == {"error": "There is no signal 'NONE'."}
        assert "The ledger has no task" in remote.revoke(None, "nonsense")["error"]
        assert DurableTask.objects.get(pk=waiting.id).status == Status.CANCELLED


class TestOperators:
    @pytest.mark.fault("F98")
    def test_tasks_that_the_code_no_longer_has_are_ended_by_the_command(self, monkeypatch):
        monkeypatch.setattr(cancelling, "PORTION", 10)
        DurableTask.objects.bulk_create(DurableTask(name="tests.of_the_last_release", queue="email") for _ in range(25))
        probe.make_collection.delay("garden")
        chosen = ("cancel", "--task", "tests.of_the_last_release", "--reason", "it is gone")
        assert outbox(*chosen, "--dry-run") == "25 would be cancelled.\n"
        assert outbox(*chosen) == "25 cancelled.\n"
        assert outbox(*chosen) == "0 cancelled.\n"
        drain()
        assert probe.seen == ["garden"]
        assert tally.totals_by_queue()["email", "cancelled"] == (25, 0)
        entries = AuditEntry.objects.filter(model="celery_ledger.durabletask")
        assert {(entry.before["status"], entry.after["reason"]) for entry in entries} == {("pending", "it is gone")}
        assert entries.count() == 25

    def test_the_command_takes_ids_or_a_filter_and_names_how_many_do_not_wait(self):
        handle = probe.make_collection.delay("garden")
        for which in ([], [handle.id, "--task", "x"]):
            with pytest.raises(CommandError, match="Choose tasks"):
                outbox("cancel", *which, "--reason", "a test")
        assert outbox("cancel", handle.id, "--reason", "a test", "--dry-run") == "1 would be cancelled.\n"
        with pytest.raises(CommandError, match="Say why"):
            outbox("cancel", handle.id, "--reason", " ")
        assert outbox("cancel", handle.id, "--reason", "a test") == "1 cancelled.\n"
        with pytest.raises(CommandError, match="1 of the ids are not waiting"):
            outbox("cancel", handle.id, "--reason", "a test")
        probe.make_collection.apply_async(("yard",), queue="email")
        assert outbox("cancel", "--queue", "email", "--reason", "a test") == "1 cancelled.\n"

    def test_the_api_takes_a_reason_and_a_permission(self):
        handle = probe.make_collection.delay("garden")
        address = f"/api/ops/tasks/{handle.id}/cancel/"
        assert api(make_staff()).post(address, {"reason": "a test"}).status_code == 403
        user = make_staff(CANCEL)
        assert api(user).post(address, {}).status_code == 400
        answer = api(user).post(address, {"reason": "a test"})
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        refused = api(user).post(address, {"reason": "a test"})
        assert (refused.status_code, refused.json()["type"].rsplit(":", 1)[-1]) == (409, "not-waiting")
        begun, _ = running("bell")
        address = f"/api/ops/tasks/{begun.id}/cancel/"
        assert api(user).post(address, {"reason": "a test"}).status_code == 409
        answer = api(user).post(address, {"reason": "a test", "terminate": True}, format="json")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert api(user).post(f"/api/ops/tasks/{uuid.uuid4()}/cancel/", {"reason": "a"}).status_code == 404
        assert set(AuditEntry.objects.values_list("object_id", "who_id")) >= {(handle.id, user.pk), (begun.id, user.pk)}

    def test_a_whole_canvas_is_one_command_and_one_call(self):
        for end in (
            lambda task: outbox("cancel", "--canvas", task, "--reason", "a test"),
            lambda task: api(make_staff(CANCEL)).post(
                f"/api/ops/canvases/{DurableTask.objects.get(id=task).canvas}/cancel/", {"reason": "a test"}
            ),
        ):
            result = chord([probe.make_collection.si(f"{number}") for number in range(3)], probe.ring.si("bell"))()
            id = result.parent[0].id
            assert outbox("cancel", "--canvas", id, "--reason", "a test", "--dry-run") == "3 would be cancelled.\n"
            end(id)
            assert {member.state for member in result.parent} == {"REVOKED"}
            assert result.state == "FAILURE"
        with pytest.raises(CommandError, match="is not a chain, group or chord"):
            outbox("cancel", "--canvas", probe.ring.delay("bell").id, "--reason", "a test")

    def test_what_is_due_later_runs_now_if_somebody_says_so(self):
        handle = probe.make_collection.apply_async(("garden",), countdown=3_600)
        drain()
        address = f"/api/ops/tasks/{handle.id}/run-now/"
        assert api(make_staff(CANCEL)).post(address).status_code == 403
        assert api(make_staff("replay_durabletask")).post(address).status_code == 200
        drain()
        assert probe.seen == ["garden"]
        assert api(make_staff("replay_durabletask")).post(address).status_code == 409

    def test_the_admin_cancels_what_is_chosen(self):
        handles = [probe.make_collection.delay(title) for title in "abc"]
        client = browser_of(make_staff(CANCEL, "view_durabletask"))
        wish = {"action": "cancel", "_selected_action": [handle.id for handle in handles[:2]]}
        address = reverse("admin:celery_ledger_durabletask_changelist")
        client.post(address, wish)
        assert not DurableTask.objects.filter(status=Status.CANCELLED).exists()
        client.post(address, wish | {"reason": "a test"})
        assert DurableTask.objects.filter(status=Status.CANCELLED).count() == 2

    @pytest.mark.postgresql
    def test_what_a_worker_holds_is_left_to_it(self, monkeypatch):
        handle = published("garden")
        worker = connection.copy()
        try:
            worker.set_autocommit(False)
            with worker.cursor() as cursor:
                cursor.execute("SELECT 1 FROM celery_ledger_durabletask WHERE id = %s FOR UPDATE", [handle.id])
            assert cancelling.cancel([uuid.UUID(handle.id)], reason="too late") == 0
            monkeypatch.setattr(cancelling, "PATIENCE", 0.2)
            with pytest.raises(control.CannotRevokeError, match="did not stop in time"):
                handle.revoke(terminate=True)
        finally:
            worker.rollback()
            worker.close()
        assert cancelling.cancel([uuid.UUID(handle.id)], reason="in time") == 1
