"""A broker that is briefly away or refuses: no worker exits, nothing is done twice, and no result is wrong."""

import resource
import time
import uuid

import pytest
import redis

from celery_ledger.models import DurableTask
from celery_ledger.rows import results
from celery_ledger.rows.outbox import collecting
from email_app.models import EmailDelivery
from email_app.tasks import send_order_confirmation
from store.models import Collection
from tests import probe
from tests.faults.invariants import doubled
from tests.own_rabbitmq import OwnRabbitMQ, find_server
from tests.processes import wait_until
from tests.shop import make_order
from tests.tcp_proxy import tcp_proxy

pytestmark = [pytest.mark.processes, pytest.mark.once]
CUTS = 12
#: Seconds for which broker and database are away together.
AWAY = 15
#: Tasks whose rate is measured before and after that.
BELLS = 90
MEBIBYTE = 1024 * 1024
#: What Redis answers to every write, and what a worker's log then says.
REFUSALS = {"READONLY": "read only replica", "MISCONF": "MISCONF", "NOREPLICAS": "NOREPLICAS"}


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.slow_fault)])
def cut_broker(request, machine, tmp_path):
    """A proxy between the workers and their broker; the relay has a line of its own."""
    if request.param == "redis":
        if machine.uses_rabbitmq:
            pytest.skip("the other one is tried by itself")
        with tcp_proxy("127.0.0.1", machine.redis_port) as proxy:
            proxy.worker_environment = {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0"}
            yield proxy
        return
    script = find_server()
    if script is None:
        pytest.skip("there is no rabbitmq-server")
    node = OwnRabbitMQ(tmp_path, script)
    machine.environment["CELERY_BROKER_URL"] = node.url
    try:
        with tcp_proxy("127.0.0.1", node.port) as proxy:
            proxy.worker_environment = {"CELERY_BROKER_URL": node.url.replace(str(node.port), str(proxy.port))}
            yield proxy
    finally:
        node.kill()


def open_tasks():
    return DurableTask.objects.exclude(status="succeeded")


@pytest.mark.fault("F75")
@pytest.mark.timeout(400)
def test_f75_a_broker_that_blinks_under_running_tasks_costs_nothing(machine, mail_server, cut_broker):
    orders = [make_order() for _ in range(CUTS)]
    DurableTask.objects.all().delete()  # The welcomes are not what this is about.
    machine.start_relay()
    workers = [machine.start_worker(concurrency=2, **cut_broker.worker_environment) for _ in range(2)]

    def blink_under_a_mail() -> None:
        cut_broker.cut()
        time.sleep(1.5)  # A mail server that takes its time: whoever ends its client now has a second copy sent.

    for number, order in enumerate(orders):
        under_way = sum(worker.log.read_text().count("is under way") for worker in workers)
        probe.ring_slowly.delay(f"bell {number}", 1.5)
        wait_until(
            "it runs",
            lambda before=under_way: sum(worker.log.read_text().count("is under way") for worker in workers) > before,
        )
        mail_server.before_answer = blink_under_a_mail
        send_order_confirmation.delay(order.pk)
        wait_until("both are done", lambda: not open_tasks().exists())
    assert cut_broker.cuts >= CUTS
    assert [worker.is_alive for worker in workers] == [True, True]
    assert doubled(mail_server.received) == 0
    assert len(mail_server.received) == EmailDelivery.objects.filter(status="sent").count() == CUTS
    assert Collection.objects.count() == CUTS
    assert set(DurableTask.objects.values_list("attempts", flat=True)) == {1}
    assert list(results.untrue()) == []
    for number in range(8):  # As many at once as there are processes: none was given up.
        probe.ring_slowly.delay(f"afterwards {number}", 1)
    wait_until("all go on", lambda: not open_tasks().exists(), seconds=30)


@pytest.mark.fault("F76")
@pytest.mark.parametrize("refusal", REFUSALS)
def test_f76_workers_wait_for_a_redis_that_refuses(machine, refusal):
    if machine.uses_rabbitmq:
        pytest.skip("It breaks a Redis.")
    client = redis.Redis(port=machine.redis_port)
    relay = machine.start_relay()
    workers = [machine.start_worker(concurrency=1) for _ in range(2)]
    probe.ring_slowly.delay("meanwhile", 1)
    wait_until("it runs", lambda: any(worker.says("is under way") for worker in workers))
    if refusal == "READONLY":
        client.execute_command("REPLICAOF", "127.0.0.1", "9")
    elif refusal == "NOREPLICAS":
        client.config_set("min-replicas-to-write", 1)
    else:
        client.set("ballast", b"x" * 4 * MEBIBYTE)
        resource.prlimit(machine.broker.pid, resource.RLIMIT_FSIZE, (MEBIBYTE, -1))  # A full disk, to it.
        client.config_set("rdbcompression", "no")
        client.config_set("save", "1 1")
        wait_until("a save failed", lambda: is_refused(client), seconds=30)
    wait_until("the workers are refused", lambda: all(worker.says(REFUSALS[refusal]) for worker in workers), seconds=30)
    probe.make_collection.delay("later")
    assert all(worker.is_alive for worker in [relay, *workers])
    if refusal == "READONLY":
        client.execute_command("REPLICAOF", "NO", "ONE")
    elif refusal == "NOREPLICAS":
        client.config_set("min-replicas-to-write", 0)
    else:
        client.config_set("save", "")
        client.config_set("stop-writes-on-bgsave-error", "no")
    took = wait_until("all is done", lambda: not open_tasks().exists(), seconds=30)
    print(f"F76: {refusal}: all done {took:.1f} s after Redis took writes again")
    assert all(worker.is_alive for worker in [relay, *workers])
    assert Collection.objects.count() == 2
    assert list(results.untrue()) == []


def drain() -> float:
    """Return how many tasks a second are done, of such that take a tenth of a second each."""
    with collecting():
        for _ in range(BELLS):
            probe.ring_slowly.delay(f"bell {uuid.uuid4()}", 0.1)
    return BELLS / wait_until("all are done", lambda: not open_tasks().exists())


@pytest.mark.fault("F117")
@pytest.mark.postgresql
@pytest.mark.timeout(400)
def test_f117_broker_and_database_away_together_cost_nothing_and_leave_nothing_slower(
    machine, mail_server, cut_broker, database_proxy, tmp_path
):
    orders = iter([make_order() for _ in range(80)])
    DurableTask.objects.all().delete()  # The welcomes are not what this is about.
    machine.environment |= {**cut_broker.worker_environment, "DATABASE_URL": database_proxy.url}
    relay, beat = machine.start_relay(), machine.start_beat()
    workers = [machine.start_worker(concurrency=3) for _ in range(2)]
    before = max(drain() for _ in range(3))
    children = [worker.children() for worker in workers]
    mails = 0

    def send_mails(seconds: float) -> None:
        nonlocal mails
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            send_order_confirmation.delay(next(orders).pk)
            mails += 1
            time.sleep(0.3)

    def cut_both() -> None:
        cut_broker.refuse()
        database_proxy.refuse()
        time.sleep(1)  # The mail was taken, and its sender hears of it when it can record nothing.

    paths = {seconds: tmp_path / f"{seconds} seconds" for seconds in (5, AWAY + 5)}
    mail_server.delay = 0.3
    for seconds, path in paths.items():
        probe.leave_mark.delay(str(path), seconds)
    probe.make_slowly.delay("in a transaction", 5)
    texts = [f"{what} is under way" for what in ("in a transaction", *paths.values())]
    wait_until("they run", lambda: all(any(worker.says(text) for worker in workers) for text in texts))
    mail_server.before_answer = cut_both
    wait_until("a mail is cut off", lambda: send_mails(0.1) or database_proxy.cuts, seconds=20)
    assert cut_broker.cuts
    send_mails(AWAY)
    arrived = len(mail_server.received)
    assert arrived < mails, "nothing was away"
    cut_broker.let_through()
    database_proxy.let_through()
    send_mails(2)
    took = wait_until("all is done", lambda: not open_tasks().exists())

    after = [drain()]
    while max(after) < 0.6 * before and len(after) < 8:  # The machine may be busy; what is slow for good stays so.
        after.append(drain())
    print(
        f"F117: {arrived} of {mails} mails had arrived when both were back, all {took:.1f} s later; "
        f"{before:.0f} tasks a second before, {max(after):.0f} afterwards"
    )
    assert all(process.is_alive for process in [relay, beat, *workers])
    assert [worker.children() for worker in workers] == children
    assert doubled(mail_server.received) == 0
    assert len(mail_server.received) == EmailDelivery.objects.filter(status="sent").count() == mails
    assert [path.read_text() for path in paths.values()] == ["mark\n"] * 2
    assert Collection.objects.filter(title="in a transaction").count() == 1
    assert Collection.objects.count() == 1 + BELLS * (3 + len(after))
    assert list(results.untrue()) == []
    assert max(after) >= 0.6 * before


def is_refused(client) -> bool:
    try:
        client.incr("something")
    except redis.exceptions.ResponseError:
        return True
    return False
