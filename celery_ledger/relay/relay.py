"""
The relay: due rows of the ledger become messages at the broker.

Run by ``manage.py relay``, in any number of processes. It claims rows under a lease, commits, and only then
contacts the broker, so that a stalled broker never causes a lock to be held. It lets only a limited number of
messages wait in each queue; the rest of a backlog waits in the ledger, where priorities apply and no broker
memory is used. Rows of a task with a ``batch_size`` share messages: as many as are due.
A single due row goes out alone, immediately. The relay also reports late schedules, since beat itself may be down.

It serves the queues of the project's Celery app. If tasks may name other queues, which is the default, it checks
once a second which queues the ledger's rows name, and serves those as well.

It stops only on request: it waits for an unavailable broker or database, leaves a refused queue or a row that
cannot be published alone for a while, and reports any other failure in its heartbeat and retries.
"""

import logging
import os
import random
import time
from collections import Counter
from datetime import timedelta
from uuid import UUID

from celery import Celery
from django.db import Error as DatabaseError

from celery_ledger import conf
from celery_ledger.databases import connection, keep_connections
from celery_ledger.faults import crash_point
from celery_ledger.models import DurableTask, Heartbeat, Tally
from celery_ledger.relay import crews, expiring, leases, limits
from celery_ledger.relay.abandoned import bury_abandoned
from celery_ledger.relay.broker import Broker, RefusedError
from celery_ledger.relay.bundle import Message, bundle
from celery_ledger.relay.low_water import LowWater
from celery_ledger.relay.overtaken import Marks
from celery_ledger.relay.pacing import Pacing
from celery_ledger.relay.rates import Rates
from celery_ledger.relay.rounds import rounds
from celery_ledger.relay.set_back import ClockWatch
from celery_ledger.relay.wakeup import doorbell
from celery_ledger.rows import ledger, tally
from celery_ledger.supervision import REFUSED_PAUSES, Refusals, Troubles
from celery_ledger.watch import canaries, heartbeats, life, samples

logger = logging.getLogger(__name__)

CLAIM_LIMIT = 1_000  # rows a turn
LINGER = 0.015  # seconds from one claim to the next under load, in which a batch gathers
#: Fewer rows in that time do not count as load: the rows of each commit go out immediately.
LOAD = 10
LOAD_LASTS = 0.1  # seconds for which it keeps gathering after that, or it would go to sleep at each short gap
HELD_PAUSE = 0.05  # seconds until due work that could not be claimed is checked again
SWEEP_INTERVAL = 1.0  # seconds
#: Samples take a hundredth of the time at most: under an old snapshot, one reads what is left of each task since.
SAMPLES_SHARE = 100.0
#: This many messages that are slices of work may wait in a queue, or a fifth of its window if that is more.
LEAST_SLICES = 10
#: A published row counts as lost when its queue is empty at the broker and no worker has locked it after this time.
MISSED_AFTER = 5.0  # seconds
#: In a queue that is not empty, it counts as lost when a worker has run a row published this much later. Relays publish
#: in parallel, and one may take that long from claiming a row to publishing it.
OVERTAKEN_BY = 3.0  # seconds
BROKER_PAUSES = (0.1, 0.25, 0.5, 1.0, 2.0)  # seconds between attempts while the broker is away
#: Seconds until a row that could not be published is tried again.
UNPUBLISHED_PAUSE = 60.0
#: A queue known only from rows is dropped after this time without a publication; a row that names it brings it back.
UNUSED_AFTER = 600.0  # seconds
TROUBLE_PAUSE = 1.0  # seconds from a turn that failed to the next
CANARY_TASK = "celery_ledger.tasks.see_canary"


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
        self.rates = Rates(app)
        self._stopping = False
        self._queues = list(app.amqp.queues)
        self._found: dict[str, float] = {}  # queues that rows named, and when each was last used
        self._paused: set[str] = set()
        self.pacing = Pacing()
        self._crews: dict[str, str] = {}
        self._limited: set[str] = set()
        self._held: set[str] = set()  # limited queues with due work that their limits keep back
        self._refused = Refusals()  # queues for which the broker accepts nothing
        self._was_cut_off = False  # from the database or the broker, since the last canaries were sent
        #: Until then, workers can record what they ended, or renew their claims, after an outage of the database.
        self._claims_hold_until = 0.0
        self._was_due = False  # whether the last wait ended because work was due
        self._has_much_news = False  # whether it ended because there were many commits
        self._loaded_until = 0.0
        self._news = (0.0, 0)  # since when rows from notifications are counted, and how many there were
        self._clock = ClockWatch()
        self.troubles = Troubles(logger)
        self._waiting: dict[str, int] = dict.fromkeys(self._queues, 0)  # an upper bound of the messages at the broker
        self._rows_a_message: dict[str, float] = dict.fromkeys(self._queues, 1.0)  # that the next message may carry
        self._sliced: set[str] = set()  # queues whose last messages were slices of work
        self._is_full = False  # whether some queue's window was full at the last turn
        # Queues that were empty when the broker was last asked: workers will have started those messages by next time.
        self._empty: set[str] = set()
        self._marks = Marks()
        self._leases = LowWater()
        self._next_sweep = 0.0
        self._said = ""  # the state in its last heartbeat
        self._next_word = 0.0
        self._refusals = 0
        self._refused_for: set[str] = set()  # errors already logged during the current outage
        self._next_sample = 0.0
        self._next_canaries = 0.0
        began = time.monotonic()
        self._rounds = {round: began + round.every for round in rounds()}  # when each runs next
        self._published: Counter[tuple[str, str]] = Counter()  # rows by queue and name that are not in the tally yet
        self._messages: Counter[tuple[str, str]] = Counter()

    def stop(self, *_: object) -> None:
        """End :meth:`run` after the current turn. May be called by a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Run until stopped, waiting for the database or broker whenever it becomes unavailable."""
        connection.close()
        while not self._stopping:
            try:
                with self.troubles.caught("a turn"):
                    self._go_round()
                if self.troubles.has("a turn"):
                    self._rest(TROUBLE_PAUSE)
            except DatabaseError as error:
                life.sign(is_away=True)
                logger.warning("The database is unavailable; the relay is waiting for it: %s", error)
                connection.close()
                self._was_cut_off = True
                self._claims_hold_until = time.monotonic() + conf.RUNNING_LEASE.value
                self._rest(1.0)
        try:
            with self.troubles.caught("the end"):
                self.broker.close()
                self._count_published()
                heartbeats.end(Heartbeat.Kind.RELAY)
        except DatabaseError as error:
            logger.warning("The database is unavailable; the relay stops without recording it: %s", error)

    def _go_round(self) -> None:
        began = time.monotonic()
        keep_connections()
        self.sweep_if_due()
        self.make_rounds()
        published = self.turn()
        if self._refusals:
            self._say_if_due()
            self._rest(BROKER_PAUSES[min(self._refusals, len(BROKER_PAUSES)) - 1])
        elif self._is_full or self._is_loaded(published):
            self._was_due = False
            self._rest((LINGER if published else 2 * LINGER) - (time.monotonic() - began))
        elif self._was_due and not published:
            self._was_due = False
            self._rest(HELD_PAUSE)  # Another process has locked the due rows: an immediate retry would spin.
        elif not self._stopping:
            self._hold_back()
            pause = max(0.0, min([self._next_sweep, *self._rounds.values()]) - time.monotonic())
            pause = min(pause, self.rates.pause())
            pause = min([pause, *(self._refused[queue].until - began for queue in self._refused.resting())])
            pause = min(pause, HELD_PAUSE) if self._held else pause
            if self.doorbell.wait(pause, self._work_is_due, self._publish_news):
                self.rates.reach.hurry()

    def _is_loaded(self, published: int) -> bool:
        """Whether the load justifies gathering, after a turn that published this number of rows."""
        now = time.monotonic()
        if published >= LOAD or self._has_much_news:
            self._loaded_until = now + LOAD_LASTS
        is_loaded = (published > 0 or self._has_much_news) and now < self._loaded_until
        self._has_much_news = False
        return is_loaded

    def turn(self) -> int:
        """Claim due rows that fit into the window, publish them, and return how many went out."""
        rooms = self._rooms()
        limited = {queue: rooms.pop(queue) for queue in self._limited & rooms.keys()}
        rows = self.rates.claim(rooms, lease=self.lease, limit=CLAIM_LIMIT)
        for queue, room in limited.items():
            rows += limits.claim(queue, room=min(room, CLAIM_LIMIT), lease=self.lease, take=self.rates.claim)
        if not rows:
            return 0
        crash_point("relay.after_claim")
        names = {row.id: row.name for row in rows}
        messages = list(bundle(self.app, rows, self.pacing.known, self._free(), self._crews))
        published: list[Message] = []
        refused: dict[str, list[UUID]] = {}
        for number, message in enumerate(messages):
            if message.queue in refused:
                refused[message.queue] += message.ids
                continue
            try:
                published += self._publish(message)
            except self.broker_errors as error:
                ledger.release([id for ids in refused.values() for id in ids])
                self._broker_refused(error, messages[number:])
                return 0
            except RefusedError as error:
                self._queue_refused(message.queue, error)
                refused[message.queue] = list(message.ids)
        if refused:
            ledger.release([id for ids in refused.values() for id in ids])
            self.rates.reach.forget()
        self._broker_accepted()
        self._note_published(published, names)
        self.pacing.follow(names.values())
        return sum(len(message.ids) for message in published)

    def _publish_news(self, rows: list[ledger.Claimed]) -> bool:
        """
        Publish rows that were just committed, while they are being claimed. False: some work is left for a turn.

        A worker that receives a message before its rows are claimed takes them all the same.
        """
        needed = Counter(row.queue for row in rows)
        kept = self._paused | self._limited | self._refused.keys()
        if self._refusals or self.rates.are_kept_for(row.name for row in rows) or kept & needed.keys():
            return False
        if not all(self._has_room(queue, n) for queue, n in needed.items()):
            return False
        names = {row.id: row.name for row in rows}
        messages = list(bundle(self.app, rows, self.pacing.known, self._free(), self._crews))
        published: list[Message] = []
        failed: Exception | None = None
        with ledger.being_claimed(list(names), lease=self.lease):
            crash_point("relay.after_claim")
            try:
                for message in messages:
                    self.broker.publish(message.queue, message.name, message.ids)
                    published.append(message)
                    crash_point("relay.after_publish")
            except Exception as error:  # noqa: BLE001 - a turn finds out what it is
                failed = error
        self._note_published(published, names)
        if failed is None:
            return self._note_news(len(rows))
        unpublished = messages[len(published) :]
        if isinstance(failed, self.broker_errors):
            self._broker_refused(failed, unpublished)
        else:
            ledger.release([id for message in unpublished for id in message.ids])
        return False

    def _has_room(self, queue: str, messages: int) -> bool:
        """Whether this number of messages fits into a queue's window; if in doubt, ask the broker."""
        if queue not in self._waiting:
            return False
        window = self._window_of(queue)
        if self._waiting[queue] + messages > window:
            errors: tuple[type[BaseException], ...] = (*self.broker_errors, RefusedError)
            try:
                self._waiting[queue] = self.broker.depth(queue)
            except errors:
                return False  # A turn asks again, and reports the error.
        return self._waiting[queue] + messages <= window

    def _note_news(self, rows: int) -> bool:
        """Count rows that arrived by notification, and return whether they are few enough to sleep on."""
        since, before = self._news
        now = time.monotonic()
        self._news = (now, rows) if now - since > LINGER else (since, before + rows)
        self._has_much_news = self._news[1] >= LOAD
        return not self._has_much_news

    def _note_published(self, published: list[Message], names: dict[UUID, str]) -> None:
        """Record what the broker now has: an upper bound of waiting messages, rows per message, and counts."""
        for message in published:
            self._waiting[message.queue] += 1
            self._messages[message.queue, message.name] += 1
            self._published.update((message.queue, names[id]) for id in message.ids)
            self._marks.note(message.queue, message.ids[-1])
        used = {message.queue for message in published}
        self._found |= dict.fromkeys(used & self._found.keys(), time.monotonic())
        for queue in used:
            # Twice what they carry now, or a window of small messages would stay that way while workers fall behind.
            slices = sum(message.is_slice for message in published if message.queue == queue)
            (self._sliced.add if slices else self._sliced.discard)(queue)
            in_queue = [min(2 * len(message.ids), message.most) for message in published if message.queue == queue]
            self._rows_a_message[queue] = sum(in_queue) / len(in_queue)

    def _publish(self, message: Message) -> list[Message]:
        """
        Publish the rows of a message, and return the messages in which they went out.

        A row that itself makes publishing fail is found by halving the message, and only that row is refused.
        """
        not_its_own: tuple[type[BaseException], ...] = (*self.broker_errors, RefusedError)
        try:
            self.broker.publish(message.queue, message.name, message.ids)
        except not_its_own:
            raise
        except Exception as error:
            if len(message.ids) > 1:
                return [part for half in message.halves() for part in self._publish(half)]
            [id] = message.ids
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            logger.exception("%s %s cannot be published; retrying in %g s.", message.name, id, UNPUBLISHED_PAUSE)
            self.troubles.note("a task cannot be published", seconds=2 * UNPUBLISHED_PAUSE)
            ledger.refuse(id, f"could not be published: {text}", delay=UNPUBLISHED_PAUSE)
            return []
        crash_point("relay.after_publish")
        self._refused.pop(message.queue, None)
        return [message]

    def sweep_if_due(self) -> None:
        """
        Once a second, bring back rows whose lease has expired or whose message is lost, and apply pauses.

        The steps are independent: a failing step does not prevent the others.
        """
        now = time.monotonic()
        if now < self._next_sweep:
            return
        # Out of step with workers that poll Redis once a second, or the same worker would get a lone message each time.
        self._next_sweep = now + SWEEP_INTERVAL * random.uniform(0.75, 1.25)  # noqa: S311 - guards no secret
        caught = self.troubles.caught
        self._say_if_due()
        with caught("reading the switches"):
            self._paused = ledger.paused_queues()
            self._limited = limits.limited_queues()
        with caught("reading the rates of tasks"):
            self.rates.look()
        with caught("reading how long tasks take"):
            self.pacing.read()
        with caught("reading which workers serve which queues"):
            self._crews = crews.known()
        if self.app.conf.task_create_missing_queues:
            with caught("looking for queues"):
                self._look_for_queues()
        with caught("checking the database's clock"):
            self._clock.look()
        with caught("republishing lost tasks"):
            self._bring_back()
        self._say_if_due()
        with caught("cancelling expired tasks"):
            expiring.cancel_expired()
        with caught("counting"):
            self._count_published()
        if now >= self._next_sample:
            self._next_sample = now + samples.INTERVAL / 2
            with caught("taking samples"):
                self._take_samples()
        if now >= self._next_canaries:
            self._next_canaries = now + samples.INTERVAL / 2
            with caught("sending canaries"):
                self._send_canaries()
            self._say_if_due()

    def _take_samples(self) -> None:
        depths = self._depths()
        began = time.monotonic()
        samples.take(depths)
        self._next_sample = max(self._next_sample, began + SAMPLES_SHARE * (time.monotonic() - began))

    def make_rounds(self) -> None:
        """Do the periodic work that is due."""
        now = time.monotonic()
        for round in [round for round, at in self._rounds.items() if now >= at]:
            self._rounds[round] = now + round.every
            with self.troubles.caught(round.what):
                if (pause := round.make()) is not None:
                    self._rounds[round] = time.monotonic() + pause

    def _look_for_queues(self) -> None:
        """Serve queues that rows name, even if the app does not define them; drop those that have long been unused."""
        for queue in ledger.unknown_queues(self._queues):
            self._serve(queue)
        now = time.monotonic()
        for queue in [queue for queue, used in self._found.items() if now - used > UNUSED_AFTER]:
            self._queues.remove(queue)
            for known in (self._found, self._waiting, self._rows_a_message, self._refused):
                known.pop(queue, None)

    def _serve(self, queue: str) -> None:
        logger.info("The ledger has tasks for the queue %s; it is served from now on.", queue)
        self._queues.append(queue)
        self._found[queue] = time.monotonic()
        self._waiting[queue] = self.window  # The upper bound, so that the broker is asked.
        self._rows_a_message[queue] = 1.0

    def _bring_back(self) -> None:
        """Bring back rows whose lease ended or whose message is lost, unless it still waits at the broker."""
        lapsed = 0
        can_tell = time.monotonic() >= self._claims_hold_until
        statuses = [DurableTask.Status.RUNNING] if can_tell else []
        self._marks.look()
        self._leases.look(lease=self.lease)
        try:
            self.broker.refuse_eviction()
            lapsed += self._bring_back_lost()
            statuses.append(DurableTask.Status.PUBLISHED)
        except self.broker_errors as error:
            self._broker_refused(error, [])  # Whether it has the messages is unknown, and nothing could be published.
        if self._leases.has_ended:
            if can_tell and (buried := bury_abandoned(self.app, since=self._leases.ended)):
                logger.error("%d tasks that must not run twice lost their worker and are now dead letters.", buried)
            lapsed += ledger.lapse_expired(statuses, since=self._leases.ended)
        if lapsed:
            self.rates.reach.forget()
            logger.warning("%d tasks were not acknowledged in time and have been republished.", lapsed)

    def _bring_back_lost(self) -> int:
        """Bring back rows of queues that are empty at the broker; renew the leases of those that wait in others."""
        lapsed = 0
        empty: set[str] = set()
        since, has_published = self._leases.published, self._leases.has_published
        for queue in ledger.waiting_queues(older_than=MISSED_AFTER, since=since) if has_published else ():
            if queue not in self._waiting:
                if not self.app.conf.task_create_missing_queues:
                    continue  # It belongs to the next release, whose relays serve it.
                self._serve(queue)
            if (others := self._waiting_beside(queue)) is None:
                continue
            if not self._waiting[queue] and not others:
                empty.add(queue)
                if queue in self._empty:
                    lapsed += ledger.lapse_lost(queue, older_than=MISSED_AFTER, since=self._leases.published)
                continue
            if not others:
                lapsed += self._lapse_overtaken(queue)
            if self._waiting[queue]:
                leases.renew_waiting(
                    self.app,
                    queue,
                    self._waiting[queue],
                    lease=self.lease,
                    paces=self.pacing.known,
                    since=self._leases.published,
                )
        self._empty = empty
        return lapsed

    def _waiting_beside(self, queue: str) -> int | None:
        """
        Return how many messages wait in other queues that may carry rows of this one; None: the broker refuses to say.

        These are the queues that the same workers serve. How many wait in this one is looked up, too.
        """
        crew = self._crews.get(queue, queue)
        others = [each for each in self._waiting if each != queue and self._crews.get(each) == crew]
        for each in (queue, *others):
            try:
                self._waiting[each] = self.broker.depth(each)
            except RefusedError as error:
                self._queue_refused(each, error)
                return None
        return sum(self._waiting[each] for each in others)

    def _lapse_overtaken(self, queue: str) -> int:
        """Release rows whose messages have left a queue that is not empty, and that no worker has locked."""
        if (reached := self._marks.reached(queue)) is None:
            return 0
        before = reached - timedelta(seconds=OVERTAKEN_BY)
        return ledger.lapse_lost(queue, older_than=MISSED_AFTER, before=before, since=self._leases.published)

    def _say_if_due(self) -> None:
        """
        Report every few seconds that this relay is running.

        Called between all steps that may wait for an unresponsive broker, or a waiting relay would seem stalled.
        """
        life.sign()
        state = self._state()
        if state == self._said and time.monotonic() < self._next_word:
            return
        with self.troubles.caught("sending the heartbeat"):
            if not self._said:
                heartbeats.begin(Heartbeat.Kind.RELAY)
            memory = heartbeats.memory_of([os.getpid()])
            if heartbeats.beat(Heartbeat.Kind.RELAY, state, queues=self._queues, memory=memory) == Heartbeat.Wish.STOP:
                self.stop()
            self._said, self._next_word = state, time.monotonic() + samples.INTERVAL / 2

    def _state(self) -> str:
        """Return the state of this relay: ``ok``, or a description of what is wrong."""
        wrong = [heartbeats.BROKER_AWAY] * bool(self._refusals)
        if self._refused:
            wrong.append(f"the broker refuses {', '.join(sorted(self._refused))}")
        return "; ".join([*wrong, *self.troubles])[: heartbeats.LONGEST_STATE] or heartbeats.OK

    def _depths(self) -> dict[str, int | None]:
        """Return how many messages wait in each queue; empty while the broker is unavailable."""
        depths: dict[str, int | None] = {}
        try:
            for queue in self._queues:
                try:
                    depths[queue] = self.broker.depth(queue)
                except RefusedError as error:
                    self._queue_refused(queue, error)
        except self.broker_errors as error:
            self._broker_refused(error, [])
            return {}
        self._broker_accepted()
        return depths

    def _send_canaries(self) -> None:
        """Send a canary into every queue where one is due, to see whether workers take it."""
        if self._refusals:
            self._was_cut_off = True
            return
        if self._was_cut_off:
            canaries.start_anew()
            self._was_cut_off = False
        try:
            for queue in canaries.due(self._queues):
                try:
                    self.broker.publish(queue, CANARY_TASK, [])
                    self._refused.pop(queue, None)
                except RefusedError as error:
                    self._queue_refused(queue, error)
        except self.broker_errors as error:
            self._broker_refused(error, [])

    def _count_published(self) -> None:
        """Add everything published since the last call to the tally; a killed relay loses about a second of counts."""
        keys = self._published.keys() | self._messages.keys()
        if not keys:
            return
        tally.add(
            Tally.Outcome.PUBLISHED,
            [tally.Count(*key, rows=self._published[key], messages=self._messages[key]) for key in keys],
        )
        self._published.clear()
        self._messages.clear()

    def _hold_back(self) -> None:
        """Note which limited queues have due work: it must not keep the relay awake, and is checked again soon."""
        limited = self._limited - self._paused
        self._held = limited if limited and ledger.any_due(limited) else set()

    def _work_is_due(self) -> bool:
        kept = self._paused | self._held | self._refused.resting()
        queues = [queue for queue in self._queues if queue not in kept]
        self._was_due = ledger.any_due(queues, back=self.rates.reach.back(queues))
        return self._was_due

    def _free(self) -> dict[str, int]:
        """Return how many messages fit into each queue's window; 1 if half of it waits, as no worker is idle then."""
        windows = {queue: self._window_of(queue) for queue in self._waiting}
        return {
            queue: 1 if 2 * waiting >= windows[queue] else windows[queue] - waiting
            for queue, waiting in self._waiting.items()
        }

    def _window_of(self, queue: str) -> int:
        """
        Return how many messages may wait in a queue: fewer if each is a slice of work.

        Messages waiting at the broker run before everything enqueued later, whatever its priority.
        """
        return max(min(self.window, LEAST_SLICES), self.window // 5) if queue in self._sliced else self.window

    def _rooms(self) -> dict[str, int]:
        """Return how many rows may be published to each queue now without overfilling its window."""
        rooms = {}
        self._is_full = False
        resting = self._refused.resting()
        for queue in self._queues:
            if queue in self._paused or queue in resting:
                continue
            if queue in self._refused:
                rooms[queue] = 1  # To see whether the broker accepts it by now.
                continue
            window = self._window_of(queue)
            if self._waiting[queue] >= window:
                try:
                    self._waiting[queue] = self.broker.depth(queue)
                except RefusedError as error:
                    self._queue_refused(queue, error)
                    continue
                except self.broker_errors as error:
                    self._broker_refused(error, [])
                    return {}
                self._is_full |= self._waiting[queue] >= window
            rooms[queue] = max(0, int((window - self._waiting[queue]) * self._rows_a_message[queue]))
        return rooms

    def _broker_refused(self, error: BaseException, unpublished: list[Message]) -> None:
        ledger.release([id for message in unpublished for id in message.ids])
        if str(error) not in self._refused_for:
            logger.warning("The broker is unavailable or refuses messages; tasks wait in the ledger: %s", error)
            self._refused_for.add(str(error))
        self._refusals += 1
        self._close_broker()

    def _close_broker(self) -> None:
        try:
            self.broker.close()
        except self.broker_errors:
            logger.debug("The broken connection could not be closed cleanly.", exc_info=True)

    def _queue_refused(self, queue: str, error: BaseException) -> None:
        """Leave a queue alone for a while: the broker works but does not accept messages for it."""
        times = self._refused.note(queue)
        if times == 1:
            logger.warning("The broker refuses messages for %s; its tasks wait in the ledger: %s", queue, error)
        if times >= len(REFUSED_PAUSES):
            self._close_broker()  # RabbitMQ 3.10 keeps refusing on a channel whose queue's limit was lifted.

    def _broker_accepted(self) -> None:
        if self._refusals:
            logger.info("The broker is back.")
            self.rates.reach.forget()  # Rows that it refused were released.
        self._refusals = 0
        self._refused_for.clear()

    def _rest(self, seconds: float) -> None:
        if seconds > 0 and not self._stopping:
            time.sleep(seconds)


def relay_from_settings(app: Celery) -> Relay:
    """Return a relay configured by the project's settings."""
    return Relay(app, window=conf.QUEUE_WINDOW.value, lease=conf.PUBLISHED_LEASE.value)
