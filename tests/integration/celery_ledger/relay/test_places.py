"""No more calls with the same key run at once, in the whole cluster, than their task allows."""

import signal
from collections import Counter

import psycopg
import pytest
from celery import chain
from django.utils import timezone

from celery_ledger import Task
from celery_ledger.desk import limits, rates
from celery_ledger.models import DurableTask
from celery_ledger.relay.relay import Relay
from celery_ledger.rows.ledger import Claimed
from celery_ledger.rows.places import OPTION
from celery_ledger.rows.sql import PLACES_LOCK
from celery_ledger.testing import drain
from tests import probe
from tests.processes import database_url, wait_until
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status


class Broker:
    """In the broker's place: it takes everything, and there are no workers."""

    errors = (ConnectionError,)

    def __init__(self):
        self.ids = []

    def depth(self, queue):
        return 0

    def publish(self, queue, name, ids):
        self.ids += ids

    def refuse_eviction(self):
        pass

    def close(self):
        pass


@pytest.fixture
def make_relay():
    def make(*, window=50):
        relay = Relay(app, window=window, lease=60)
        relay.broker, relay.broker_errors = Broker(), Broker.errors
        relay.rates.look()
        return relay

    return make


def turn(relay):
    """Return the ids of the calls that go out in a few turns."""
    relay.broker.ids.clear()
    for _ in range(3):
        relay.rates.places._next_look = 0.0
        relay.turn()
    return {str(id) for id in relay.broker.ids}


def end(ids, **fields):
    DurableTask.objects.filter(id__in=ids).update(**({"status": Status.SUCCEEDED, "lease_until": None} | fields))


def ask(provider, **options):
    return probe.ask_provider.apply_async((provider, "/dev/null"), **options).id


@pytest.mark.fault("F215")
def test_calls_wait_for_their_own_key_and_go_by_priority_and_time(make_relay):
    relay = make_relay()
    first = [ask("slow") for _ in range(5)]
    urgent = ask("slow", priority=0)
    others = {ask("quick"), probe.make_collection.delay("behind them").id}
    gone = turn(relay)
    assert gone >= others | {urgent}
    assert len(gone) == 4
    assert turn(relay) == set()
    later = ask("slow")
    seen = [*gone - others]
    while len(seen) < 7:
        end(seen[-1:])
        [next_one] = turn(relay)
        seen.append(next_one)
    assert set(seen[:6]) == {*first, urgent}
    assert seen[6] == later


def test_a_failed_attempt_leaves_its_place_and_waits_for_another_when_it_is_due_again(make_relay):
    relay = make_relay()
    calls = [ask("slow") for _ in range(3)]
    gone = turn(relay)
    [waiting] = {*calls} - gone
    failed = sorted(gone)[0]
    end([failed], status=Status.PENDING, available_at=timezone.now())
    assert turn(relay) <= {waiting, failed}
    assert DurableTask.objects.filter(status=Status.PUBLISHED).count() == 2


def test_tasks_that_use_the_same_key_share_its_places_and_a_call_may_say_its_key(make_relay):
    relay = make_relay()
    running = ask("bank")
    paying = probe.pay_provider.apply_async((1,), limit_key="bank")
    free = [probe.pay_provider.delay(number).id for number in range(3)]
    assert turn(relay) == {running, *free}
    end([running])
    assert turn(relay) == {paying.id}
    assert DurableTask.objects.get(id=paying.id).options[OPTION] == "bank"


def test_a_call_in_a_canvas_has_its_key():
    chain(probe.pay_provider.si(1).set(limit_key="bank"), probe.pay_provider.si(2).set(limit_key="bank")).apply_async()
    drain()
    assert [options[OPTION] for options in DurableTask.objects.values_list("options", flat=True)] == ["bank", "bank"]


def test_many_keys_are_served_in_one_look_and_a_full_one_is_in_no_others_way(make_relay):
    relay = make_relay(window=500)
    blocked = [ask("blocked") for _ in range(300)]
    rest = {ask(f"customer {number}") for number in range(40)}
    gone = turn(relay)
    assert gone >= rest
    assert len(gone & {*blocked}) == 2


def test_two_relays_do_not_give_the_same_place_away(make_relay):
    one, other = make_relay(), make_relay()
    for _ in range(5):
        ask("slow")
    other.rates.look()
    assert len(turn(one) | turn(other)) == 2


def test_a_relay_that_is_notified_of_a_call_with_a_key_publishes_nothing_before_it_has_claimed_it(make_relay):
    relay = make_relay()
    row = DurableTask.objects.get(id=ask("slow"))
    assert relay._publish_news([Claimed(row.id, row.name, row.queue, 0)]) is False
    assert relay.broker.ids == []


@pytest.mark.postgresql
def test_no_place_is_given_while_another_relay_counts_them(make_relay):
    relay = make_relay()
    call = ask("slow")
    with psycopg.connect(database_url()) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [PLACES_LOCK])
        assert turn(relay) == set()
    assert turn(relay) == {call}


def test_a_limit_that_is_gone_from_the_code_lets_go_what_waits(make_relay, monkeypatch):
    relay = make_relay()
    calls = {ask("slow") for _ in range(4)}
    due = dict(DurableTask.objects.values_list("id", "available_at"))
    gone = turn(relay)
    assert relay.rates.pause() < 1
    monkeypatch.setattr(probe.ask_provider, "concurrency_per_key", None)
    relay.rates.look()
    assert relay.rates.pause() == float("inf")
    assert turn(relay) == calls - gone
    assert dict(DurableTask.objects.values_list("id", "available_at")) == due


def test_the_desk_lists_keys_with_what_waits(make_relay):
    relay = make_relay()
    for _ in range(5):
        ask("slow")
    ask("quick")
    turn(relay)
    listed = [limit for limit in limits.limits() if limit.kind == limits.KEY]
    assert [(each.name, each.concurrency, each.under_way, each.held_back.rows) for each in listed] == [
        ("quick", 2, 1, 0),
        ("slow", 2, 2, 3),
    ]


def test_it_takes_no_rate_besides():
    with pytest.raises(ValueError, match="has a limit by key"):
        rates.set_rate(app, probe.ask_provider.name, "5/m")
    with pytest.raises(ValueError, match="not both"):
        type("Both", (Task,), {"rate_limit": "5/m", "concurrency_per_key": 1})


@pytest.mark.parametrize(
    "said",
    [{"concurrency_per_key": 0}, {"concurrency_per_key": True}, {"concurrency_per_key": "2"}, {"limit_key": "x"}],
)
def test_a_limit_that_cannot_be_kept_is_refused_where_it_is_written(said):
    with pytest.raises(ValueError, match="concurrency_per_key"):
        type("Wrong", (Task,), said)


@pytest.mark.parametrize(
    ("task", "key", "error"),
    [
        (probe.make_collection, "bank", ValueError),
        (probe.pay_provider, 7, TypeError),
        (probe.pay_provider, "x" * 256, ValueError),
        (probe.pay_provider, "a\0", ValueError),
    ],
)
def test_a_key_that_cannot_be_kept_is_refused_when_the_call_is_made(task, key, error):
    with pytest.raises(error, match="limit_key"):
        task.apply_async(("x",), limit_key=key)
    assert not DurableTask.objects.exists()


@pytest.mark.processes
@pytest.mark.fault("F215")
def test_f215_no_more_run_at_once_though_relays_share_the_work_and_a_worker_is_killed(machine, tmp_path):
    """Two relays, two workers; one of them dies with its calls, whose places are free again when it is found."""
    log = tmp_path / "log"
    for _ in range(2):
        machine.start_relay()
    workers = [machine.start_worker(concurrency=3) for _ in range(2)]
    for number in range(30):
        probe.ask_provider.delay("slow" if number % 3 else "quick", str(log))
    wait_until("some have begun", lambda: log.exists() and len(log.read_text().splitlines()) > 6)
    workers[0].kill(signal.SIGKILL)
    killed_after = log.read_text().splitlines()
    rows = DurableTask.objects.filter(name=probe.ask_provider.name)
    wait_until("all are done", lambda: not rows.exclude(status=Status.SUCCEEDED).exists(), seconds=90)
    lines = log.read_text().splitlines()
    assert len(killed_after) < len(lines)
    lost = Counter(line.split()[0] for line in lines if line.endswith("begins"))
    lost.subtract(line.split()[0] for line in lines if line.endswith("ends"))
    assert lost.total() <= 3, "more bodies were cut off than the killed worker had"
    running, most = Counter(), Counter()
    for line in lines:
        provider, what = line.split()
        running[provider] += 1 if what == "begins" else -1
        most[provider] = max(most[provider], running[provider])
    print("at once:", dict(most), "cut off:", dict(+lost))
    assert all(2 <= most[provider] <= 2 + lost[provider] for provider in ("slow", "quick"))
