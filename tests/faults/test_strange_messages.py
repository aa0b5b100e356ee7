"""An attacker with access to the broker can run no body, stop no worker, and leave no message that comes back
forever."""

import json
import random
import uuid

import kombu
import pytest
import redis

from audit_trail.models import AuditEntry
from celery_ledger.models import DurableTask
from email_app.models import EmailDelivery
from store.models import Collection
from tests import probe
from tests.own_rabbitmq import OwnRabbitMQ, find_server
from tests.processes import wait_until
from tests.shop import make_order

pytestmark = [pytest.mark.processes, pytest.mark.once]
Status = DurableTask.Status
QUEUE = "default"
MESSAGES = 200

TASKS = (
    "tests.make_anew",
    "tests.make_collections",
    "tests.ring_slowly",
    "core.tasks.record_order_event",
    "email_app.tasks.send_order_confirmation",
    "celery_ledger.tasks.run_mixed",
    "celery_ledger.tasks.redeliver",
    "celery.map",
    "celery.chord_unlock",
    "celery.backend_cleanup",
)
#: What Celery itself would do as it is told.
ORDERS = (
    {"is_eager": True},
    {"called_directly": True},
    {"is_eager": True, "called_directly": True, "args": ["forged"], "kwargs": {}},
    {"callbacks": [{"task": "tests.make_anew", "args": ["forged"], "kwargs": {}, "options": {}, "subtask_type": None}]},
    {"errbacks": [{"task": "tests.make_anew", "args": ["forged"], "kwargs": {}, "options": {}, "subtask_type": None}]},
    {"chain": [{"task": "tests.make_anew", "args": ["forged"], "kwargs": {}, "options": {}, "subtask_type": None}]},
    {"chord": {"task": "tests.make_anew", "args": ["forged"], "kwargs": {}, "options": {"task_id": str(uuid.uuid4())}}},
    {"ignore_result": False, "group": str(uuid.uuid4()), "group_index": 0},
    {"callbacks": 7, "errbacks": "all", "chain": {"a": 1}, "chord": []},
)
JUNK = (None, True, 0, -1, 1e308, "", "\0", "x" * 20_000, [], {}, [[]], {"a": {"b": []}}, "\N{SNOWMAN}", ["garden"])
#: What Celery reads in the headers of a message.
HEADERS = ("lang", "task", "id", "shadow", "eta", "expires", "group", "retries", "timelimit", "root_id", "stamps")
HEADERS += (
    "stamped_headers",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "compression",
    "replaced_task_nesting",
)


class Forger:
    """Makes messages of which none is the relay's."""

    def __init__(self, seed: int, ids: list[str]) -> None:
        self.random = random.Random(seed)
        self.ids = ids

    def names(self):
        """Ids of rows that may not run, of rows that are none, and what is no id."""
        draw = self.random
        return draw.choice(
            [
                lambda: draw.sample(self.ids, 2),
                lambda: [draw.choice(self.ids)],
                lambda: [str(uuid.uuid4()) for _ in range(draw.choice([0, 1, 3, 2_000]))],
                lambda: [draw.choice(JUNK)],
                lambda: draw.choice(JUNK),
                lambda: ["forged"],
            ]
        )()

    def body(self):
        draw = self.random
        names = self.names()
        usual = [[names], {}, {**draw.choice(ORDERS), **draw.choice(ORDERS)}]
        return draw.choice([usual] * 6 + [[names, {}, usual[2]], [[names], draw.choice(JUNK), {}], draw.choice(JUNK)])

    def headers(self):
        draw = self.random
        name = draw.choice([*TASKS, "no.such.task"])
        headers = {"lang": "py", "task": name, "id": draw.choice([str(uuid.uuid4()), *self.ids]), "retries": 0}
        headers |= draw.choice([{}, {}, draw.choice(ORDERS)])
        for header in draw.sample(HEADERS, draw.choice([0, 0, 1, 3])):
            headers[header] = draw.choice(JUNK)
        return headers

    def raw(self) -> bytes:
        """A message as Redis keeps it, or what is none at all."""
        draw = self.random
        properties = {
            "correlation_id": str(uuid.uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": draw.choice([*[QUEUE] * 8, "no such queue", None, 7])},
            "priority": draw.choice([0, 0, 9, -1, "high"]),
            "body_encoding": draw.choice([""] * 12 + ["base64", "no such encoding"]),
            "delivery_tag": draw.choice([*(str(uuid.uuid4()) for _ in range(12)), "", None, 7]),
        }
        if draw.random() < 0.1:
            del properties[draw.choice(list(properties))]
        message = {
            "body": draw.choice([json.dumps(self.body())] * 16 + [draw.choice(JUNK), "{", "[" * 2_000]),
            "content-encoding": draw.choice(["utf-8"] * 6 + ["binary", "no such encoding", None]),
            "content-type": draw.choice(
                ["application/json"] * 6 + ["application/x-python-serialize", "text/plain", None]
            ),
            "headers": draw.choice([self.headers()] * 19 + [draw.choice(JUNK)]),
            "properties": draw.choice([properties] * 19 + [draw.choice(JUNK)]),
        }
        if draw.random() < 0.05:
            del message[draw.choice(list(message))]
        return draw.choice([json.dumps(message).encode()] * 19 + [b"\xff\xfe", json.dumps(draw.choice(JUNK)).encode()])


def rows_that_may_not_run() -> list[str]:
    """Make a row of each status in which no message may have it run, and return their ids."""
    ids = []
    for status in (Status.PENDING, Status.SUCCEEDED, Status.DEAD, Status.CANCELLED):
        for task in (probe.make_anew, probe.ring_slowly):
            arguments = ("forged", 0) if task is probe.ring_slowly else ("forged",)
            handle = task.apply_async(arguments, countdown=86_400)
            DurableTask.objects.filter(id=handle.id).update(status=status)
            ids.append(handle.id)
    return ids


def entries() -> int:
    return AuditEntry.objects.filter(model="store.order").count()


def look(worker, ids, before):
    """What no message may have changed."""
    assert worker.is_alive, "the worker ended"
    assert not Collection.objects.filter(title__startswith="forged").exists(), "a body ran without a row that allows it"
    assert (entries(), EmailDelivery.objects.count()) == before
    assert set(DurableTask.objects.filter(id__in=ids).values_list("attempts", flat=True)) == {0}
    assert not DurableTask.objects.exclude(id__in=ids).exclude(name="tests.make_collection").exists()


@pytest.mark.fault("F77")
def test_f77_no_message_that_redis_can_hold_runs_a_body_or_ends_a_worker(machine):
    if machine.uses_rabbitmq:
        pytest.skip("the other one is tried by itself")
    client = redis.Redis(port=machine.redis_port)
    seed = random.randrange(10_000)
    print(f"F77: seed {seed}")
    make_order()
    DurableTask.objects.all().delete()
    ids = rows_that_may_not_run()
    before = entries(), EmailDelivery.objects.count()
    worker = machine.start_worker(concurrency=2)
    children = worker.children()
    forger = Forger(seed, ids)
    for start in range(0, MESSAGES, 50):
        client.lpush(f"shopwire:{QUEUE}", *(forger.raw() for _ in range(50)))
        wait_until(f"{start + 50} were taken", lambda: client.llen(f"shopwire:{QUEUE}") == 0, seconds=90)
    wait_until("none is left with the worker", lambda: not client.zcard("shopwire:unacked_index"), seconds=30)
    machine.start_relay()
    probe.make_collection.delay("afterwards")
    wait_until("work goes on", Collection.objects.filter(title="afterwards").exists, seconds=30)
    look(worker, ids, before)
    assert worker.children() == children


@pytest.mark.fault("F77")
@pytest.mark.slow_fault
def test_f77_no_message_that_rabbitmq_can_hold_runs_a_body_or_ends_a_worker(machine, tmp_path):
    script = find_server()
    if script is None:
        pytest.skip("there is no rabbitmq-server")
    seed = random.randrange(10_000)
    print(f"F77: seed {seed}")
    make_order()
    DurableTask.objects.all().delete()
    ids = rows_that_may_not_run()
    before = entries(), EmailDelivery.objects.count()
    node = OwnRabbitMQ(tmp_path, script)
    try:
        machine.environment["CELERY_BROKER_URL"] = node.url
        worker = machine.start_worker(concurrency=2)
        children = worker.children()
        forger = Forger(seed, ids)
        with kombu.Connection(node.url) as link:
            channel = link.channel()
            for _ in range(MESSAGES):
                publish(channel, forger)
        wait_until("all were taken", lambda: node.depth(QUEUE) == 0, seconds=90)
        machine.start_relay()
        probe.make_collection.delay("afterwards")
        wait_until("work goes on", Collection.objects.filter(title="afterwards").exists, seconds=30)
        look(worker, ids, before)
        assert worker.children() == children
        worker.stop()
        assert node.depth(QUEUE) == 0, "a message came back"
    finally:
        node.kill()


def publish(channel, forger) -> None:
    draw = forger.random
    message = channel.prepare_message(
        draw.choice([json.dumps(forger.body())] * 8 + ["{", "[" * 2_000, "", b"\xff\xfe"]),
        content_type=draw.choice(["application/json"] * 6 + ["application/x-python-serialize", "text/plain", None]),
        content_encoding="utf-8",
        headers=draw.choice([forger.headers()] * 9 + [{}, None]),
        properties=draw.choice([{}, {"reply_to": "x", "correlation_id": "y", "expiration": "1000000"}]),
    )
    channel.basic_publish(message, exchange="", routing_key=QUEUE)
