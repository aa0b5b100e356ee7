"""
The relay: due rows of the ledger become messages at the broker.

Run by ``manage.py relay``, as many as one likes. It claims rows under a lease, commits, and only then
speaks to the broker, so that a broker that stalls holds no lock. It lets only a limited number of
messages wait in each queue; the rest of a backlog waits in the ledger, where priorities hold and the
broker's memory is not needed. Rows of a task with a ``batch_size`` share messages: as many as are due.
At idle that is one row, at once. It also says when a schedule is late, since the beat that should may be away.
"""

import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

from celery import Celery
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from worker import canaries, due_times, heartbeats, ledger, limits, samples, tally
from worker.broker import Broker
from worker.faults import crash_point
from worker.models import Heartbeat, Tally
from worker.signals import schedule_late
from worker.wakeup import doorbell

logger = logging.getLogger(__name__)

CLAIM_LIMIT = 1_000  # rows a turn
#: Up to so many rows of several batched tasks share one message; more go as one message a task.
MIXED_LIMIT = 60
LINGER = 0.015  # seconds from one claim to the next under load, in which a batch gathers
HELD_PAUSE = 0.05  # seconds until a queue whose limit keeps work back is looked at again
SWEEP_INTERVAL = 1.0  # seconds
#: A published row is missed when its queue is empty at the broker and nobody has held it for so long.
MISSED_AFTER = 5.0  # seconds
LOOK_AT_SCHEDULES = 30.0  # seconds from one look for late schedules to the next
BROKER_PAUSES = (0.1, 0.25, 0.5, 1.0, 2.0)  # seconds between attempts while the broker is away
#: The task that runs messages of several tasks; see worker/tasks.py.
MIXED_TASK = "worker.tasks.run_mixed"
CANARY_TASK = "worker.tasks.see_canary"


@dataclass(frozen=True)
class Message:
    """Rows that travel together."""

    queue: str
    name: str
    ids: tuple[UUID, ...]
    #: How many rows a message like it could carry.
    most: int = 1


class Relay:
    """Publishes due rows until it is stopped."""

    def __init__(self, app: Celery, *, window: int, lease: float) -> None:
        if window < 1:
            raise ValueError(f"window must be at least one message, got {window}")
        if lease <= MISSED_AFTER:
            raise ValueError(f"lease must be over {MISSED_AFTER} seconds, got {lease}")
        self.app = app
        self.window = window
        self.lease = lease
        self.broker = Broker(app)
        self.broker_errors = self.broker.errors
        self.doorbell = doorbell()
        self._stopping = False
        self._queues = list(app.amqp.queues)
        self._paused: set[str] = set()
        self._limited: set[str] = set()
        self._held: set[str] = set()  # limited queues with due work that their limits keep back
        self._waiting: dict[str, int] = dict.fromkeys(self._queues, 0)  # messages at the broker, at the most
        self._rows_a_message: dict[str, float] = dict.fromkeys(self._queues, 1.0)  # that the next may carry
        self._is_full = False  # whether some queue's window was, at the last turn
        self._next_sweep = 0.0
        self._refusals = 0
        self._refused_for: set[str] = set()  # what has been logged of the present outage
        self._next_sample = 0.0
        self._next_look = time.monotonic() + LOOK_AT_SCHEDULES  # A beat that starts with this relay comes first.
        self._published: Counter[tuple[str, str]] = Counter()  # rows by queue and name that are not in the tally yet
        self._messages: Counter[tuple[str, str]] = Counter()

    def stop(self, *_: object) -> None:
        """End :meth:`run` after the turn at hand. May be called by a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Work until stopped. A database or broker that goes away is waited for."""
        connection_created.connect(_do_not_wait_for_the_disk, dispatch_uid="worker.relay.do_not_wait_for_the_disk")
        connection.close()
        while not self._stopping:
            began = time.monotonic()
            try:
                close_old_connections()
                self.sweep_if_due()
                published = self.turn()
                if self._refusals:
                    self._rest(BROKER_PAUSES[min(self._refusals, len(BROKER_PAUSES)) - 1])
                elif published or self._is_full:
                    self._rest(LINGER - (time.monotonic() - began))
                else:
                    self._hold_back()
                    pause = max(0.0, self._next_sweep - time.monotonic())
                    self.doorbell.wait(min(pause, HELD_PAUSE) if self._held else pause, self._work_is_due)
            except DatabaseError as error:
                logger.warning("The database is away, the relay waits for it: %s", error)
                connection.close()
                self._rest(1.0)
        self.broker.close()
        self._count_published()
        heartbeats.end(Heartbeat.Kind.RELAY)

    def turn(self) -> int:
        """Claim what is due and fits into the window, publish it, return how many rows went out."""
        rooms = self._rooms()
        limited = {queue: rooms.pop(queue) for queue in self._limited & rooms.keys()}
        rows = ledger.claim(rooms, lease=self.lease, limit=CLAIM_LIMIT)
        for queue, room in limited.items():
            rows += limits.claim(queue, room=min(room, CLAIM_LIMIT), lease=self.lease)
        if not rows:
            return 0
        crash_point("relay.after_claim")
        messages = list(bundle(self.app, rows))
        names = {row.id: row.name for row in rows}
        for number, message in enumerate(messages):
            try:
                self.broker.publish(message.queue, message.name, message.ids)
            except self.broker_errors as error:
                self._broker_refused(error, messages[number:])
                return 0
            crash_point("relay.after_publish")
            self._waiting[message.queue] += 1
            self._messages[message.queue, message.name] += 1
            self._published.update((message.queue, names[id]) for id in message.ids)
        self._broker_accepted()
        for queue in {message.queue for message in messages}:
            # Twice what they carry now, or a window of small messages would stay one while workers fall behind.
            in_queue = [min(2 * len(message.ids), message.most) for message in messages if message.queue == queue]
            self._rows_a_message[queue] = sum(in_queue) / len(in_queue)
        return len(rows)

    def sweep_if_due(self) -> None:
        """Once a second: bring back rows whose lease is over or whose message is lost; heed pauses."""
        now = time.monotonic()
        if now < self._next_sweep:
            return
        # Not in step with workers that ask Redis once a second, or the same one would get a lone message each time.
        self._next_sweep = now + SWEEP_INTERVAL * random.uniform(0.75, 1.25)  # noqa: S311 - guards no secret
        self._paused = ledger.paused_queues()
        self._limited = limits.limited_queues()
        lapsed = ledger.lapse_expired()
        try:
            self.broker.refuse_eviction()
            for queue in ledger.waiting_queues(older_than=MISSED_AFTER):
                self._waiting[queue] = self.broker.depth(queue)
                if self._waiting[queue] == 0:
                    lapsed += ledger.lapse_lost(queue, older_than=MISSED_AFTER)
        except self.broker_errors as error:
            self._broker_refused(error, [])
        if lapsed:
            logger.warning("%d tasks went unheard of and are published again.", lapsed)
        self._count_published()
        if now >= self._next_sample:
            self._next_sample = now + samples.INTERVAL / 2
            samples.take(self._depths())
            self._send_canaries()
            heartbeats.beat(Heartbeat.Kind.RELAY, heartbeats.BROKER_AWAY if self._refusals else heartbeats.OK)
        if now >= self._next_look:
            self._next_look = now + LOOK_AT_SCHEDULES
            announce_late_schedules()

    def _depths(self) -> dict[str, int | None]:
        """Return how many messages wait in each queue; nothing while the broker is away."""
        try:
            depths: dict[str, int | None] = {queue: self.broker.depth(queue) for queue in self._queues}
        except self.broker_errors as error:
            self._broker_refused(error, [])
            return {}
        self._broker_accepted()
        return depths

    def _send_canaries(self) -> None:
        """Put a message into every queue whose last one came back, to see whether workers take it."""
        if self._refusals:
            return
        try:
            for queue in canaries.due(self._queues):
                self.broker.publish(queue, CANARY_TASK, [])
        except self.broker_errors as error:
            self._broker_refused(error, [])

    def _count_published(self) -> None:
        """Add what was published since the last time to the tally; a relay that is killed forgets a second of it."""
        keys = self._published.keys() | self._messages.keys()
        if not keys:
            return
        with transaction.atomic():
            tally.add(
                Tally.Outcome.PUBLISHED,
                [tally.Count(*key, rows=self._published[key], messages=self._messages[key]) for key in keys],
            )
        self._published.clear()
        self._messages.clear()

    def _hold_back(self) -> None:
        """Note which limited queues have due work: it must not keep the relay awake, and is looked at soon."""
        limited = self._limited - self._paused
        self._held = limited if limited and ledger.any_due(limited) else set()

    def _work_is_due(self) -> bool:
        return ledger.any_due([queue for queue in self._queues if queue not in self._paused | self._held])

    def _rooms(self) -> dict[str, int]:
        """Return how many rows each queue may have published now, without overfilling its window."""
        rooms = {}
        self._is_full = False
        for queue in self._queues:
            if queue in self._paused:
                continue
            if self._waiting[queue] >= self.window:
                try:
                    self._waiting[queue] = self.broker.depth(queue)
                except self.broker_errors as error:
                    self._broker_refused(error, [])
                    return {}
                self._is_full |= self._waiting[queue] >= self.window
            rooms[queue] = int((self.window - self._waiting[queue]) * self._rows_a_message[queue])
        return rooms

    def _broker_refused(self, error: BaseException, unpublished: list[Message]) -> None:
        ledger.release([id for message in unpublished for id in message.ids])
        if str(error) not in self._refused_for:
            logger.warning("The broker is away or refuses; tasks wait in the ledger: %s", error)
            self._refused_for.add(str(error))
        self._refusals += 1
        try:
            self.broker.close()
        except self.broker_errors:
            logger.debug("The broken connection could not be closed in order.", exc_info=True)

    def _broker_accepted(self) -> None:
        if self._refusals:
            logger.info("The broker is back.")
        self._refusals = 0
        self._refused_for.clear()

    def _rest(self, seconds: float) -> None:
        if seconds > 0 and not self._stopping:
            time.sleep(seconds)


def announce_late_schedules() -> None:
    """Say which schedules are late, by :data:`worker.signals.schedule_late`: a beat that is away does not."""
    for name, due_at in due_times.late_schedules():
        with transaction.atomic():
            schedule_late.send_robust(sender=Relay, name=name, due_at=due_at.isoformat())


def bundle(app: Celery, rows: Iterable[ledger.Claimed]) -> Iterator[Message]:
    """
    Decide which rows travel together: only in one queue, and only such as declare batches.

    A row that may be what kills its workers travels alone, and so does one of a task that this process
    does not know, as during a deploy.
    """
    batched: dict[str, dict[str, list[UUID]]] = defaultdict(lambda: defaultdict(list))
    sizes: dict[str, int] = {}
    for row in rows:
        if row.name not in sizes:
            task = app.tasks.get(row.name)
            sizes[row.name] = task.batch_size if task is not None and task.transactional else 1
        if sizes[row.name] == 1 or row.lapses >= ledger.SUSPECT_LAPSES:
            yield Message(row.queue, row.name, (row.id,))
        else:
            batched[row.queue][row.name].append(row.id)
    for queue, tasks in batched.items():
        if len(tasks) > 1 and sum(map(len, tasks.values())) <= MIXED_LIMIT:
            together = tuple(id for ids in tasks.values() for id in ids)
            yield Message(queue, MIXED_TASK, together, sum(sizes[name] for name in tasks))
            continue
        for name, ids in tasks.items():
            for start in range(0, len(ids), sizes[name]):
                yield Message(queue, name, tuple(ids[start : start + sizes[name]]), sizes[name])


def _do_not_wait_for_the_disk(connection: BaseDatabaseWrapper, **_: object) -> None:
    """
    Let the relay's commits return before they are flushed.

    A crash of the database may then undo a claim, and its rows are published again: no harm.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")


def relay_from_settings(app: Celery) -> Relay:
    """Return a relay as the settings have it."""
    return Relay(app, window=settings.LEDGER_QUEUE_WINDOW, lease=settings.LEDGER_PUBLISHED_LEASE)
