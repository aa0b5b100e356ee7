"""How many messages the relay lets wait at the broker while workers fall behind or the broker is away."""

import time
from datetime import timedelta

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.utils import timezone
from redis.exceptions import ResponseError

from celery_ledger import supervision
from celery_ledger.desk import queues
from celery_ledger.models import DurableTask, Heartbeat, Pace, QueueSample
from celery_ledger.relay import crews, leases, wakeup
from celery_ledger.relay.broker import _refuse_eviction
from celery_ledger.relay.pacing import SHORTEST, Pacing
from celery_ledger.relay.relay import Relay
from celery_ledger.rows import ledger, paces
from celery_ledger.rows.outbox import collecting
from tests import probe
from tests.processes import database_url
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)

WINDOW = 3


class SlowQueue:
    """In the broker's place: messages wait until the test takes them."""

    def __init__(self):
        self.messages = []
        self.on_publish = lambda: None

    errors = (ConnectionError,)

    def depth(self, queue):
        return len(self.messages) if queue == "default" else 0

    def publish(self, queue, name, ids):
        if ids:  # Canaries have none.
            self.messages.append(ids)
            self.on_publish()

    def refuse_eviction(self):
        pass

    def close(self):
        pass


@pytest.fixture
def queue():
    return SlowQueue()


@pytest.fixture
def relay(queue):
    relay = Relay(app, window=WINDOW, lease=60)
    relay.broker, relay.broker_errors = queue, queue.errors
    return relay


def fill_one_by_one(task, relay):
    for number in range(WINDOW):
        task.delay(f"first {number}")
        relay.turn()


def take_one_and_turn(queue, relay):
    queue.messages.pop(0)
    relay.turn()
    return len(queue.messages)


def test_a_window_of_small_messages_is_soon_one_of_large(queue, relay):
    fill_one_by_one(probe.make_collections, relay)
    assert [len(ids) for ids in queue.messages] == [1, 1, 1]
    with collecting():
        for number in range(250):
            probe.make_collections.delay(f"then {number}")
    depths = [take_one_and_turn(queue, relay) for _ in range(9)]
    assert max(depths) == WINDOW
    assert [len(ids) for ids in queue.messages] == [50, 50, 38]
    assert not DurableTask.objects.filter(status="pending").exists()


def test_slices_of_work_fill_a_fifth_of_it_so_that_what_is_urgent_is_soon_next(queue, relay):
    relay.window = 100
    relay.pacing.known = {"tests.make_collection": paces.Known(0.001, 100, 50.0)}
    with collecting():
        for number in range(1_500):
            probe.make_collection.delay(f"bulk {number}")
    for _ in range(60):
        relay.turn()
    assert 20 <= len(queue.messages) < 24
    urgent = probe.make_collection.apply_async(["urgent"], priority=0).id
    queue.messages.clear()
    relay.turn()
    assert urgent in map(str, queue.messages[0])


def test_what_workers_measure_of_a_new_task_is_read_while_it_is_published(queue, relay):
    def turn_with(title, measured):
        Pace.objects.update_or_create(
            name="tests.make_collection", defaults={"bodies": measured, "seconds": 0.001, "riders": 4}
        )
        probe.make_collection.delay(title)
        relay.turn()
        queue.messages.clear()
        return relay.pacing.known["tests.make_collection"].bodies

    now = [100.0]
    relay.pacing = Pacing(clock=lambda: now[0])
    assert turn_with("new", 4) == 4
    assert turn_with("at once again", 5) == 4
    now[0] += SHORTEST
    assert turn_with("a little later", 500) == 500
    for pause in (2 * SHORTEST, 4 * SHORTEST, 8 * SHORTEST, 16 * SHORTEST):
        now[0] += pause
        turn_with("known by now, and read less and less often", 501)
    now[0] += 60
    assert turn_with("known for long", 502) == 501


def test_what_travels_alone_does_not_overfill_it(queue, relay):
    fill_one_by_one(probe.make_collection, relay)
    with collecting():
        for number in range(100):
            probe.make_collection.delay(f"then {number}")
    assert {take_one_and_turn(queue, relay) for _ in range(10)} == {WINDOW}


@pytest.mark.parametrize(("window", "lease"), [(0, 60), (3, 5)])
def test_a_window_or_a_lease_that_makes_no_sense_is_refused(window, lease):
    with pytest.raises(ValueError, match="must be"):
        Relay(app, window=window, lease=lease)


def test_a_paused_queue_has_no_room_and_a_limited_one_what_its_limit_leaves(queue, relay):
    for number in range(3):
        probe.make_collection.delay(f"first {number}")
    queues.pause("default")
    relay.sweep_if_due()
    relay.turn()
    assert queue.messages == []
    queues.resume("default")
    queues.limit("default", per_second=None, concurrency=2)
    relay._next_sweep = 0
    relay.sweep_if_due()
    relay.turn()
    assert [len(ids) for ids in queue.messages] == [1, 1]


def test_what_the_broker_refuses_waits_in_the_ledger_and_goes_out_when_it_is_back(queue, relay, caplog, monkeypatch):
    for number in range(3):
        probe.make_collection.delay(f"first {number}")
    with monkeypatch.context() as patch:
        patch.setattr(queue, "publish", lambda *message: (_ for _ in ()).throw(ConnectionError("refused")))
        assert relay.turn() == 0
        assert relay.turn() == 0
    assert DurableTask.objects.filter(status="pending", lease_until=None).count() == 3
    assert caplog.text.count("The broker is unavailable or refuses") == 1
    with caplog.at_level("INFO", logger="celery_ledger.relay.relay"):
        assert relay.turn() == 3
    assert "The broker is back." in caplog.text


def test_a_broker_that_is_away_says_nothing_of_its_depths(queue, relay, monkeypatch):
    monkeypatch.setattr(queue, "depth", lambda name: (_ for _ in ()).throw(ConnectionError("refused")))
    relay.sweep_if_due()
    assert QueueSample.objects.exists()
    assert not QueueSample.objects.exclude(messages=None).exists()


def test_a_message_that_an_empty_broker_does_not_have_any_more_goes_out_again(queue, relay, caplog):
    probe.make_collection.delay("lost")
    relay.turn()
    queue.messages.clear()
    DurableTask.objects.update(published_at="2010-12-01T08:00Z")
    relay.sweep_if_due()
    assert "unheard" not in caplog.text  # A worker may have taken it this very moment.
    relay._next_sweep = 0
    relay.sweep_if_due()
    assert "1 tasks were not acknowledged in time and have been republished." in caplog.text
    relay.turn()
    assert len(queue.messages) == 1


def worker_of(*queues, name="worker 1 at host-1"):
    Heartbeat.objects.create(process=name, kind="worker", state="ok", queues=list(queues))


def test_queues_that_exactly_the_same_workers_serve_are_one_crew_s():
    assert crews.known() == {}
    worker_of("default", "email", "inventory")
    assert set(crews.known().values()) == {"default"}
    worker_of("email", "inventory", name="worker 2 at host-2")
    assert crews.known() == {"default": "default", "email": "email", "inventory": "email"}
    Heartbeat.objects.filter(process="worker 2 at host-2").update(beaten_at="2010-12-01T08:00Z")
    assert set(crews.known().values()) == {"default"}


def test_a_row_may_still_wait_in_the_message_of_another_queue_that_the_same_workers_serve(queue, relay):
    worker_of("default", "email")
    probe.make_collection.apply_async(("riding",), queue="email")
    relay.sweep_if_due()
    relay.turn()
    DurableTask.objects.update(published_at="2010-12-01T08:00Z")
    for _ in range(3):  # The broker has it in "default", and says that "email" is empty.
        relay._next_sweep = 0
        relay.sweep_if_due()
    assert DurableTask.objects.get().lapses == 0
    queue.messages.clear()
    for _ in range(2):
        relay._next_sweep = 0
        relay.sweep_if_due()
    assert DurableTask.objects.get().lapses == 1


def test_an_order_s_tasks_of_several_queues_share_a_message(queue, relay):
    worker_of("default", "email")
    names = ("tests.make_collections", "tests.make_other_collections")
    Pace.objects.bulk_create([Pace(name=name, bodies=100, seconds=0.001, riders=4) for name in names])
    relay.sweep_if_due()
    with collecting():
        probe.make_collections.apply_async(("one",), queue="email")
        probe.make_other_collections.apply_async(("other",), queue="default")
    assert relay.turn() == 2
    assert [len(ids) for ids in queue.messages] == [2]


class TestAMessageLostFromAQueueThatIsNeverEmpty:
    @pytest.fixture
    def rows(self, queue, relay):
        """Three rows: the first has lost its message, the second can be run, and the third waits at the broker."""
        for name in ("lost", "later", "waiting"):
            probe.make_collection.delay(name)
            relay.turn()
            relay._next_sweep = 0
            relay.sweep_if_due()
        del queue.messages[:2]
        rows = list(DurableTask.objects.order_by("id"))
        for row, seconds in zip(rows, (20, 10, 9), strict=True):
            DurableTask.objects.filter(pk=row.pk).update(published_at=timezone.now() - timedelta(seconds=seconds))
        return rows

    def sweep(self, relay):
        for _ in range(2):
            relay._next_sweep = 0
            relay.sweep_if_due()

    def test_it_goes_out_again_when_a_later_one_has_run(self, rows, relay):
        with transaction.atomic():
            ledger.complete([rows[1].pk])
        self.sweep(relay)
        assert list(DurableTask.objects.order_by("id").values_list("status", "lapses")) == [
            ("pending", 1),
            ("succeeded", 0),
            ("published", 0),
        ]

    def test_it_is_left_alone_while_it_may_still_wait(self, rows, relay):
        self.sweep(relay)
        assert not DurableTask.objects.exclude(status="published", lapses=0).exists()

    def test_it_is_left_alone_if_the_later_one_was_published_soon_after_it(self, rows, relay):
        DurableTask.objects.filter(pk=rows[0].pk).update(published_at=timezone.now() - timedelta(seconds=12))
        with transaction.atomic():
            ledger.complete([rows[1].pk])
        self.sweep(relay)
        assert not DurableTask.objects.filter(lapses=1).exists()

    def test_a_rescued_row_that_has_run_says_nothing(self, rows, relay):
        DurableTask.objects.filter(pk=rows[1].pk).update(lapses=1)
        with transaction.atomic():
            ledger.complete([rows[1].pk])
        self.sweep(relay)
        assert DurableTask.objects.get(pk=rows[0].pk).status == "published"


def test_after_an_outage_of_the_database_workers_have_time_to_record_what_they_did(relay, monkeypatch):
    probe.ring.delay("front door")
    relay.turn()
    mine = DurableTask.objects.filter(name=probe.ring.name)
    mine.update(status="running", lease_until="2010-12-01T08:00Z")

    def go_round():
        relay.stop()
        raise OperationalError("the server went away")

    with monkeypatch.context() as patch:
        patch.setattr(relay, "_go_round", go_round)
        patch.setattr(supervision, "database_is_away", lambda: True)
        relay.run()
    relay.sweep_if_due()
    assert mine.get().status == "running"
    relay._next_sweep = relay._claims_hold_until = 0
    relay.sweep_if_due()
    assert mine.get().status == "pending"


def test_without_room_nothing_is_claimed(relay):
    probe.make_collection.delay("waits")
    assert ledger.claim({"default": 0}, lease=60, limit=10) == []


@pytest.mark.parametrize("what", ["refuse_eviction", "depth"])
def test_a_broker_that_goes_away_while_a_window_is_full_is_waited_for(queue, relay, monkeypatch, caplog, what):
    fill_one_by_one(probe.make_collection, relay)
    probe.make_collection.delay("waits")
    with monkeypatch.context() as patch:
        patch.setattr(queue, what, lambda *call: (_ for _ in ()).throw(ConnectionError("refused")))
        relay.sweep_if_due()
        assert relay.turn() == 0
    assert "The broker is unavailable or refuses" in caplog.text
    queue.messages.clear()
    assert relay.turn() == 1


def test_a_redis_that_does_not_tell_its_policy_is_believed_with_a_word(caplog):
    class Managed:
        def info(self, section):
            raise ResponseError("unknown command 'INFO'")

    _refuse_eviction(Managed())
    assert "must be noeviction" in caplog.text


def test_a_connection_that_cannot_even_be_closed_stops_no_relay(queue, relay, monkeypatch):
    def refuse(*call):
        raise ConnectionError("refused")

    probe.make_collection.delay("waits")
    with monkeypatch.context() as patch:
        patch.setattr(queue, "publish", refuse)
        patch.setattr(queue, "close", refuse)
        assert relay.turn() == 0
    assert relay.turn() == 1


class TestMessagesThatWaitForLongerThanTheirLease:
    @pytest.fixture(autouse=True)
    def published(self, relay, settings):
        settings.LEDGER_RIDES = False
        with collecting():
            for number in range(WINDOW):
                probe.make_collection.delay(f"slow {number}")
        relay.turn()
        DurableTask.objects.update(published_at="2010-12-01T08:00Z", lease_until="2010-12-01T08:01Z")

    @pytest.mark.fault("F88")
    def test_f88_they_are_renewed_as_long_as_they_wait(self, relay, queue):
        relay.sweep_if_due()
        assert not DurableTask.objects.exclude(status="published", lapses=0).exists()
        assert not DurableTask.objects.filter(lease_until__lt=timezone.now() + timedelta(seconds=50)).exists()

    @pytest.mark.fault("F88")
    def test_f88_what_does_not_wait_any_more_lapses(self, relay, queue):
        queue.messages.pop(0)
        DurableTask.objects.filter(pk=min(DurableTask.objects.values_list("pk", flat=True))).update(
            published_at="2010-12-01T07:00Z"
        )
        relay.sweep_if_due()
        assert sorted(DurableTask.objects.values_list("status", "lapses")) == [
            ("pending", 1),
            ("published", 0),
            ("published", 0),
        ]

    @pytest.mark.fault("F88")
    def test_f88_nobody_calls_them_lost_while_the_broker_is_away(self, relay, queue, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(queue, "depth", lambda name: (_ for _ in ()).throw(ConnectionError("refused")))
            relay.sweep_if_due()
        assert not DurableTask.objects.exclude(status="published").exists()


@pytest.mark.fault("F88")
def test_f88_a_message_of_a_batch_is_renewed_with_all_that_it_carries(relay, queue):
    relay.window = 80
    with collecting():
        for number in range(80):
            probe.make_collections.delay(f"slow {number}")
    relay.turn()
    assert [len(ids) for ids in queue.messages] == [50, 30]
    DurableTask.objects.update(lease_until="2010-12-01T08:01Z")
    assert leases.renew_waiting(app, "default", 1, lease=60, paces={}) == 50
    assert leases.renew_waiting(app, "default", 2, lease=60, paces={}) == 30
    assert leases.renew_waiting(app, "default", 2, lease=60, paces={}) == 0


@pytest.mark.fault("F89")
@pytest.mark.postgresql
def test_f89_only_the_claim_s_own_commit_does_not_wait_for_the_disk(relay, queue):
    def mode():
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            return cursor.fetchone()[0]

    usual = mode()
    assert usual != "off"
    relay.broker.on_publish = relay.stop
    probe.make_collection.delay("shelf")
    relay.run()
    assert mode() == usual
    probe.make_collection.delay("another shelf")
    with transaction.atomic():
        assert len(ledger.claim({"default": 1}, lease=60, limit=1)) == 1
        assert mode() == "off"
    assert mode() == usual


@pytest.mark.fault("F72")
@pytest.mark.parametrize("published", [False, True])
def test_f72_a_task_that_expires_before_a_worker_takes_it_is_cancelled_by_a_sweep(relay, published):
    probe.make_collection.apply_async(("late",), expires=60)
    if published:
        assert relay.turn() == 1
    DurableTask.objects.update(expires_at=F("created_at") - timedelta(seconds=1))
    relay.sweep_if_due()
    task = DurableTask.objects.get()
    assert (task.status, task.lease_until) == (DurableTask.Status.CANCELLED, None)


def test_a_task_that_a_worker_has_begun_by_then_is_not_cancelled(relay):
    probe.ring.apply_async(("bell",), expires=60)
    relay.turn()
    row = DurableTask.objects.get()
    assert ledger.start(row.id, lease=60, limit_of=lambda name: None)
    DurableTask.objects.update(expires_at=F("created_at") - timedelta(seconds=1))
    relay.sweep_if_due()
    row.refresh_from_db()
    assert row.status == DurableTask.Status.RUNNING


@pytest.mark.postgresql
def test_due_work_that_somebody_else_holds_is_looked_at_now_and_then(relay, monkeypatch):
    """Not as fast as the relay can."""
    probe.make_collection.delay("held")
    claim, claims = ledger.claim, []

    def count(*rooms, **how):
        claims.append(time.monotonic())
        if claims[-1] - claims[0] > 1:
            relay.stop()
        return claim(*rooms, **how)

    monkeypatch.setattr(ledger, "claim", count)
    with psycopg.connect(database_url()) as somebody:
        somebody.execute("SELECT 1 FROM celery_ledger_durabletask FOR UPDATE")
        relay.run()
    assert 2 <= len(claims) < 60


@pytest.mark.fault("F89")
@pytest.mark.postgresql
def test_f89_a_doorbell_behind_a_pooler_neither_locks_nor_listens_and_hears_of_work(monkeypatch):
    monkeypatch.setattr(wakeup, "is_pooled", lambda: True)
    looks = iter([False, False, True])
    wakeup.PostgreSQLDoorbell().wait(60, lambda: next(looks), lambda _: False)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),"
            " (SELECT count(*) FROM pg_listening_channels())"
        )
        assert cursor.fetchone() == (0, 0)
    assert next(looks, None) is None
