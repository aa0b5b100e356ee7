"""
Every automatic change of a ledger row's status, and nothing else.

Called by the relay (claim, release, lapse) and the consumer (complete, start, renew, finish, fail).
Each function is one short transaction or part of the caller's. Locks are taken in id order and rows
locked by another transaction are skipped, so that any number of relays and workers can share the work.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db.models import F, Q, QuerySet
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Greatest, Least, Now

from celery_ledger.databases import atomic, connection
from celery_ledger.models import PRIORITIES, DurableTask, FailedAttempt, Priority, QueueSwitch, Tally
from celery_ledger.rows import arguments, canvases, large, serialized, tally
from celery_ledger.rows.kinds import fingerprint_of_error
from celery_ledger.rows.sql import OLD_ROWS, WAKE_CHANNEL, statements
from celery_ledger.rows.taken import Started as Started
from celery_ledger.rows.taken import Wanted, as_uuid, started
from celery_ledger.trips import planned, with_the_begin
from celery_ledger.uuid7 import uuid7

Status = DurableTask.Status
#: Returns how many attempts a task of this name may have; None means any number.
LimitOf = Callable[[str], int | None]

#: Statuses of rows whose message a worker may have: a relay that slept publishes due rows while it claims them.
AT_THE_BROKER: Final = Q(status=Status.PUBLISHED) | Q(
    status=Status.PENDING, published_at__isnull=True, available_at__lte=Now()
)
#: Longer ago than anything was ever due, in seconds.
WHOLE = 1e9
#: A message that was lost this often may be what kills its workers: from then on its rows run alone.
SUSPECT_LAPSES = 2
#: Lapses are counted up to this number: a message can be lost for years, and the column is small.
MOST_LAPSES = 1_000
#: Longest error text kept in a row, in characters.
MAX_ERROR_LENGTH = 500
#: One sweep brings back at most this many rows.
SWEEP_LIMIT = 1_000
#: At most this many queue names are found at a time.
MOST_UNKNOWN_QUEUES = 1_000
#: libpq's status of a successful statement without rows.
COMMAND_OK: Final = 1


@dataclass(frozen=True)
class Claimed:
    """A row that the relay took to publish."""

    id: UUID
    name: str
    queue: str
    lapses: int
    priority: int = Priority.NORMAL


class AttemptsUsedUpError(Exception):
    """A row has no attempt left: every worker that ran it died."""

    def __init__(self, row: Started) -> None:
        super().__init__("every worker that ran it died")
        self.row = row


# --- The relay's side -------------------------------------------------------------------


def claim(
    rooms: Mapping[str, int], *, lease: float, limit: int, back: Mapping[str, float] | None = None
) -> list[Claimed]:
    """
    Turn due rows from pending to published under a lease, and return them for publishing.

    ``rooms`` maps each queue to how many rows it may have; ``lease`` is in seconds. ``back`` maps each queue to how
    many seconds ago, at most, the rows to take became due; by default there is no bound. SQLite, which keeps no old
    versions of rows, ignores it. In autocommit, as the relay calls it, the claim is committed when this returns.
    """
    wanted = {queue: min(room, limit) for queue, room in rooms.items() if room > 0}
    if not wanted:
        return []
    sql = statements(connection.vendor).claim
    rows: list[tuple[Any, ...]] = []
    if connection.vendor == "postgresql":
        with planned() as cursor:
            cursor.execute(
                sql,
                {
                    "queues": list(wanted),
                    "rooms": list(wanted.values()),
                    "priorities": list(PRIORITIES),
                    "lease": lease,
                    "limit": limit,
                    "back": [(back or {}).get(queue, WHOLE) for queue in wanted],
                },
            )
            rows = cursor.fetchall()
    else:
        with atomic(), connection.cursor() as cursor:
            for queue, room in wanted.items():
                cursor.execute(sql, {"queue": queue, "room": room, "lease": lease})
                rows += cursor.fetchall()
    return sorted((Claimed(as_uuid(row[0]), *row[1:]) for row in rows), key=lambda row: (row.priority, row.id))


@contextmanager
def being_claimed(ids: Collection[UUID], *, lease: float) -> Iterator[None]:
    """
    Claim known rows while this block runs, which must not use the database: PostgreSQL only.

    The claim has been sent when the block begins and is committed when the block has ended. Rows that others hold are
    left to them. This uses libpq's functions, because the driver's pipeline takes longer than the statement itself.
    """
    database: Any = connection
    database.ensure_connection()
    pipe = database.connection.pgconn
    with database.wrap_database_errors:
        given = [f"{{{','.join(map(str, ids))}}}".encode(), str(lease).encode()]
        pipe.send_query_params((statements(connection.vendor).claim_known or "").encode(), given)
        pipe.flush()
        try:
            yield
        finally:
            answers = []
            while (answer := pipe.get_result()) is not None:
                answers.append(answer)
        for answer in answers:
            if answer.status != COMMAND_OK:
                raise database.Database.errors.error_from_result(answer)


def release(ids: Collection[UUID]) -> int:
    """Release rows that the broker refused: pending again, as if never claimed."""
    return DurableTask.objects.filter(id__in=ids, status=Status.PUBLISHED).update(
        status=Status.PENDING, lease_until=None
    )


def refuse(id: UUID, error: str, *, delay: float) -> int:
    """Release a row that cannot become a message: pending, due again in ``delay`` seconds, with the reason."""
    return DurableTask.objects.filter(id=id, status=Status.PUBLISHED).update(
        status=Status.PENDING, lease_until=None, available_at=_in_seconds(delay), last_error=error[:MAX_ERROR_LENGTH]
    )


class Leases(NamedTuple):
    """The database's time, and the earliest leases: of those that have ended, and of published rows."""

    now: datetime
    ended: datetime | None
    published: datetime | None


def earliest_leases(*, ended: datetime | None, published: datetime | None) -> Leases:
    """Return the earliest leases that end from these times on, or from any time: PostgreSQL only."""
    with connection.cursor() as cursor:
        cursor.execute(statements("postgresql").earliest_leases, {"ended": ended, "published": published})
        return Leases(*cursor.fetchone())


def leased(since: datetime | None) -> QuerySet[DurableTask]:
    """Return rows with a lease, of those that end from ``since`` on; None: of any."""
    rows = DurableTask.objects.filter(lease_until__isnull=False)
    return rows if since is None else rows.filter(lease_until__gte=since)


def lapse_expired(
    statuses: Collection[str] = (Status.PUBLISHED, Status.RUNNING), *, since: datetime | None = None
) -> int:
    """
    Release rows whose lease has expired: the broker lost the message, or the worker died.

    ``since`` here and below: no lease that matters ends earlier, so earlier ones are not read.
    """
    expired = leased(since).filter(lease_until__lt=Now(), status__in=statuses)
    return _lapse(expired.order_by("lease_until"))


def lapse_lost(queue: str, *, older_than: float, before: datetime | None = None, since: datetime | None = None) -> int:
    """
    Release rows of ``queue`` that were published over ``older_than`` seconds ago and are with no worker.

    For a queue that is empty at the broker, or has no message published ``before`` this time any more: there, every
    published row that is not locked has lost its message.
    """
    lost = leased(since).filter(status=Status.PUBLISHED, queue=queue, published_at__lt=_in_seconds(-older_than))
    if before is not None:
        lost = lost.filter(published_at__lt=before)
    return _lapse(lost.order_by("published_at"))


def waiting_queues(*, older_than: float, since: datetime | None = None) -> list[str]:
    """Return the queues that have rows published over ``older_than`` seconds ago."""
    waiting = leased(since).filter(status=Status.PUBLISHED, published_at__lt=_in_seconds(-older_than))
    return list(waiting.order_by().values_list("queue", flat=True).distinct())


def any_due(queues: Collection[str], *, back: Mapping[str, float] | None = None) -> bool:
    """Whether a pending row of ``queues`` is due; ``back`` as in :func:`claim`."""
    postgresql = connection.vendor == "postgresql"
    with planned() as cursor:
        cursor.execute(
            statements(connection.vendor).due,
            {
                "queues": list(queues),
                "priorities": list(PRIORITIES),
                "back": [(back or {}).get(queue, WHOLE) for queue in queues],
            }
            if postgresql
            else {"queues": json.dumps(list(queues))},
        )
        return bool(cursor.fetchone()[0])


def unknown_queues(known: Collection[str]) -> list[str]:
    """Return queues that pending rows name, due or not, except ``known`` ones; at most a thousand."""
    names = list(known) if connection.vendor == "postgresql" else json.dumps(list(known))
    with connection.cursor() as cursor:
        cursor.execute(statements(connection.vendor).unknown_queues, {"queues": names, "limit": MOST_UNKNOWN_QUEUES})
        return [name for (name,) in cursor.fetchall()]


def paused_queues() -> set[str]:
    """Return the queues that an operator has paused."""
    return set(QueueSwitch.objects.values_list("queue", flat=True))


def _lapse(rows: QuerySet[DurableTask]) -> int:
    with atomic():
        locked = rows.select_for_update(skip_locked=_can_skip_locked()).values_list("id", "queue", "name")
        lost = list(locked[:SWEEP_LIMIT])
        if not lost:
            return 0
        _count_rescued((queue, name) for _, queue, name in lost)
        return DurableTask.objects.filter(id__in=[id for id, _, _ in lost]).update(
            status=Status.PENDING, lease_until=None, lapses=Least(F("lapses") + 1, MOST_LAPSES)
        )


def _count_rescued(rows: Iterable[tuple[str, str]]) -> None:
    counts = Counter(rows).items()
    tally.add(Tally.Outcome.RESCUED, [tally.Count(queue, name, count) for (queue, name), count in counts])


# --- The consumer's side: effects in the database ---------------------------------------


def complete(ids: Sequence[UUID], *, suspects: bool = False) -> list[Started]:
    """
    Mark published rows succeeded, in the transaction that will hold their effects.

    Rows that are done, discarded, or held by another worker or a relay are left out. So are suspects, unless asked for:
    their attempt was counted before (:func:`count_attempt`). A rollback undoes everything.
    """
    parameters: dict[str, Any] = {
        "ids": _keys(ids),
        "counted": 0 if suspects else 1,
        "most_lapses": 32_767 if suspects else SUSPECT_LAPSES - 1,
    }
    with planned() as cursor:
        with with_the_begin():
            cursor.execute(statements(connection.vendor).complete, parameters)
        return sorted((started(row) for row in cursor.fetchall()), key=lambda row: row.id)


def take_back(ids: Collection[UUID], *, lease: float) -> int:
    """
    Undo :func:`complete` for rows of its transaction that were not run, or failed: published, under a new lease.

    This counts no attempt for them.
    """
    with planned() as cursor:
        cursor.execute(statements(connection.vendor).take_back, {"ids": _keys(ids), "lease": lease})
        return int(cursor.rowcount)


def hand_on(ids: Collection[UUID]) -> int:
    """Release published rows that were not started to any free worker, and notify a relay."""
    with atomic():
        handed_on = release(ids)
        if handed_on and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT pg_notify('{WAKE_CHANNEL}', '{OLD_ROWS}')")
    return handed_on


@dataclass(frozen=True)
class PassedOver:
    """Rows of a message that neither ended nor were released: a worker or, briefly, a relay may hold them."""

    #: Their messages were lost too often.
    suspects: list[UUID]
    others: list[UUID]


def passed_over(ids: Sequence[UUID]) -> PassedOver:
    """Return those of ``ids`` that the worker with their message has yet to run."""
    rows = list(DurableTask.objects.filter(AT_THE_BROKER, id__in=ids).order_by("id").values_list("id", "lapses"))
    return PassedOver(
        [id for id, lapses in rows if lapses >= SUSPECT_LAPSES], [id for id, lapses in rows if lapses < SUSPECT_LAPSES]
    )


def count_attempt(id: UUID, *, limit_of: LimitOf) -> Started | None:
    """
    Count and commit an attempt of a published row before it is made; None if the row is not published.

    Raises:
        AttemptsUsedUpError: no attempt is left; nothing is counted.
    """
    return _take(id, limit_of, status=Status.PUBLISHED)


# --- The consumer's side: effects outside the database ----------------------------------


def start(id: UUID, *, lease: float, limit_of: LimitOf) -> Started | None:
    """
    Claim a published row for ``lease`` seconds and count the attempt; None if it is not published.

    The returned ``attempts`` is the fencing token: a worker that starts the row later has a higher one.

    Raises:
        AttemptsUsedUpError: no attempt is left; nothing is claimed.
    """
    return _take(id, limit_of, status=Status.RUNNING, lease_until=_in_seconds(lease))


def start_named(id: UUID, name: str, *, lease: float, limit: int | None) -> Started | None:
    """
    Start a row of the task ``name``, with at most ``limit`` attempts, as :func:`start` does, in one statement.

    None means that it is not such a row, or that no attempt is left; :func:`start` says which.
    """
    wanted = Wanted(id, name, lease, limit)
    key = id if connection.vendor == "postgresql" else id.hex
    with planned() as cursor:
        cursor.execute(statements(connection.vendor).start, {"id": key, **wanted.parameters()})
        rows = cursor.fetchall()
    return started(rows[0]) if rows else None


def renew(task: Started, *, lease: float) -> bool:
    """Extend the claim, or take it again if its lease expired; False if another worker has started the row."""
    return _held(task).update(status=Status.RUNNING, lease_until=_in_seconds(lease)) == 1


def finish(task: Started) -> bool:
    """Record the success of a started row, even after its lease; False if another worker has started it."""
    parameters = {
        "id": task.id if connection.vendor == "postgresql" else task.id.hex,
        "attempts": task.attempts,
        "nesting": str(canvases.of(task.options).get("replaced_task_nesting") or 0),
    }
    with planned() as cursor:
        with with_the_begin():
            cursor.execute(statements(connection.vendor).end, parameters)
        return bool(cursor.rowcount == 1)


def step_aside(row: Started) -> UUID:
    """
    Give an ended row a different id, and return it: the call that replaced it takes its id.

    This happens in the transaction that completes it. Its history moves with it.
    """
    id = uuid7()
    canvas = {**canvases.of(row.options), "replaced_by": str(row.id)}
    DurableTask.objects.filter(id=row.id).update(id=id, options={**(row.options or {}), canvases.KEY: canvas})
    if row.attempts > 1:
        FailedAttempt.objects.filter(task_id=row.id).update(task_id=id)
    return id


def longest_limits(ids: Collection[UUID]) -> tuple[float, float]:
    """Return the longest hard and soft time limits that the calls of these rows set; 0: none."""
    rows = DurableTask.objects.filter(id__in=ids, options__timelimit__isnull=False)
    asked = list(rows.values_list("options__timelimit", flat=True))
    hard, soft = (max((limits[place] or 0.0 for limits in asked), default=0.0) for place in (0, 1))
    return hard, soft


def arrived(ids: Collection[UUID]) -> list[Started]:
    """Return those of these rows that wait to be taken, in the form in which workers take them."""
    waiting = DurableTask.objects.filter(id__in=ids, status__in=[Status.PENDING, Status.PUBLISHED])
    return [_as_started(row, attempts=row.attempts + 1) for row in waiting]


def note(id: UUID, words: str) -> None:
    """Store a task's note about its end."""
    DurableTask.objects.filter(id=id).update(last_error=words[:MAX_ERROR_LENGTH])


def _held(task: Started) -> QuerySet[DurableTask]:
    """Return the row of the latest attempt, even if its lease expired while the database was away."""
    unended = [Status.RUNNING, Status.PENDING, Status.PUBLISHED]
    return DurableTask.objects.filter(_same_call(task.options), id=task.id, status__in=unended, attempts=task.attempts)


def _same_call(options: Mapping[str, Any] | None) -> Q:
    """Distinguish a call from one that took over its id, whose attempts are counted from one again."""
    nesting = canvases.of(options).get("replaced_task_nesting")
    if nesting:
        return Q(options__canvas__replaced_task_nesting=nesting)
    return Q(options__isnull=True) | Q(options__canvas__replaced_task_nesting__isnull=True)


def _take(id: UUID, limit_of: LimitOf, **changes: Any) -> Started | None:
    with atomic():
        rows = DurableTask.objects.filter(AT_THE_BROKER, id=id).exclude(expires_at__lt=Now())
        row = rows.select_for_update(skip_locked=_can_skip_locked()).first()
        if row is None:
            return None
        started = _as_started(row, attempts=row.attempts + 1)
        limit = row.attempt_limit or limit_of(row.name)
        if limit is not None and row.attempts >= limit:
            raise AttemptsUsedUpError(_as_started(row, attempts=row.attempts))
        changes["published_at"] = Coalesce("published_at", Now())
        DurableTask.objects.filter(id=id).update(attempts=F("attempts") + 1, **changes)
    return started


# --- Failure ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """The options of a body that requested a retry."""

    #: When, by the database's clock.
    at: datetime | None = None
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    #: How many attempts it has in all, unless a person who replayed it set the number.
    attempt_limit: int | None = None
    #: The same, but overrides any other limit.
    more_attempts: int | None = None
    queue: str | None = None
    priority: int | None = None
    #: A time, or seconds from now.
    expires: datetime | float | None = None
    #: All options, as the row is to keep them.
    options: dict[str, Any] | None = None

    def changes(self) -> dict[str, Any]:
        """Return the row's columns to change."""
        expires = self.expires
        said = {
            "args": self.args,
            "kwargs": self.kwargs,
            "attempt_limit": self.more_attempts
            or (self.attempt_limit and Coalesce("attempt_limit", self.attempt_limit)),
            "queue": self.queue,
            "priority": self.priority,
            "expires_at": _in_seconds(expires) if isinstance(expires, float) else expires,
            "options": self.options,
        }
        return {column: value for column, value in said.items() if value is not None}


#: A failure that the body did not ask for.
NOTHING_ASKED = Asked()


def fail(task: Started, error: str, *, dead: bool, delay: float, counted: bool, asked: Asked = NOTHING_ASKED) -> bool:
    """
    Record a failed attempt: pending again in ``delay`` seconds, or dead and kept for an operator.

    ``counted`` means that the row already counts the attempt. Returns False if the row was taken over meanwhile, in
    which case nothing was recorded.
    """
    held = DurableTask.objects.filter(
        AT_THE_BROKER | Q(status=Status.RUNNING),
        _same_call(task.options),
        id=task.id,
        attempts=task.attempts if counted else task.attempts - 1,
    )
    error = error[:MAX_ERROR_LENGTH]
    changes: dict[str, Any] = {
        "status": Status.DEAD,
        "completed_at": Now(),
        "fingerprint": fingerprint_of_error(task.name, error),
    }
    if not dead:
        due_at = _in_seconds(delay) if asked.at is None else Greatest(asked.at, Now())
        changes = {"status": Status.PENDING, "available_at": due_at}
        changes |= asked.changes()
    changes |= {"attempts": task.attempts, "lease_until": None, "unknown_since": None}
    return held.update(last_error=error, **changes) == 1


def in_flight(ids: Collection[UUID], *, held_for: float = 0.0) -> list[Started]:
    """
    Return rows whose process died during this attempt; not those published within ``held_for`` seconds.

    ``counted`` says whether the row already counts that attempt, as running rows do.
    """
    rows = DurableTask.objects.filter(
        id__in=ids, status__in=[Status.PUBLISHED, Status.RUNNING], published_at__lte=_in_seconds(-held_for)
    )
    return [
        _as_started(row, attempts=row.attempts if (counted := _is_counted(row)) else row.attempts + 1, counted=counted)
        for row in rows
    ]


@dataclass(frozen=True)
class Unrunnable:
    """A published row of a task unknown to a process, and for how many seconds it has been unknown."""

    started: Started
    queue: str
    unknown_for: float


def unrunnable(ids: Collection[UUID]) -> list[Unrunnable]:
    """Lock those of ``ids`` that are published and unlocked, and return them."""
    rows = DurableTask.objects.filter(id__in=ids, status=Status.PUBLISHED).annotate(now=Now()).order_by("id")
    return [
        Unrunnable(
            _as_started(row, attempts=row.attempts),
            row.queue,
            (row.now - row.unknown_since).total_seconds() if row.unknown_since else 0.0,
        )
        for row in rows.select_for_update(skip_locked=_can_skip_locked())
    ]


def due_siblings(queue: str, name: str, *, most: int) -> list[UUID]:
    """Lock due rows of a task that were not postponed before, and return their ids."""
    rows = DurableTask.objects.filter(
        status=Status.PENDING, queue=queue, name=name, available_at__lte=Now(), unknown_since__isnull=True
    )
    locked = rows.select_for_update(skip_locked=_can_skip_locked()).order_by("priority", "available_at", "id")
    return list(locked.values_list("id", flat=True)[:most])


def count_unknown(name: str) -> int:
    """Return how many rows of a task wait for a worker that knows the task."""
    return DurableTask.objects.filter(name=name, unknown_since__isnull=False, status=Status.PENDING).count()


def postpone(ids: Collection[UUID], *, delay: float) -> int:
    """Postpone published or due rows by ``delay`` seconds, as if never tried: this process cannot run them."""
    return DurableTask.objects.filter(id__in=ids, status__in=[Status.PUBLISHED, Status.PENDING]).update(
        status=Status.PENDING,
        lease_until=None,
        available_at=_in_seconds(delay),
        unknown_since=Coalesce("unknown_since", Now()),
    )


def recall(names: Collection[str]) -> int:
    """Make postponed rows due now."""
    left = DurableTask.objects.filter(name__in=names, unknown_since__isnull=False, status=Status.PENDING)
    return left.update(available_at=Now(), unknown_since=None)


def suspect(ids: Collection[UUID], *, held_for: float = 0.0) -> int:
    """
    Release rows whose worker process died while it ran them together; each runs alone from now on.

    Rows published within the last ``held_for`` seconds are left out.
    """
    with atomic():
        lost = DurableTask.objects.filter(id__in=ids, status=Status.PUBLISHED, published_at__lte=_in_seconds(-held_for))
        _count_rescued(lost.order_by("id").select_for_update().values_list("queue", "name"))
        return lost.update(status=Status.PENDING, lease_until=None, lapses=SUSPECT_LAPSES)


# --- Shared -----------------------------------------------------------------------------


def wait_for_locks(seconds: float) -> None:
    """Limit how long statements of this transaction wait for a row lock; no effect on SQLite."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{1000 * seconds:.0f}ms"])


def wait_as_ever() -> None:
    """Restore the project's lock timeout for statements of the current transaction."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = DEFAULT")


def _in_seconds(seconds: float) -> Combinable:
    return Now() + timedelta(seconds=seconds)


def _can_skip_locked() -> bool:
    return bool(connection.features.has_select_for_update_skip_locked)


def _is_counted(row: DurableTask) -> bool:
    """Whether the row already counts the current attempt; a suspect may have lost its process just before that."""
    return row.status == Status.RUNNING or (row.lapses >= SUSPECT_LAPSES and row.attempts > 0)


def _as_started(row: DurableTask, *, attempts: int, counted: bool = True) -> Started:
    args, kwargs = large.resolved(arguments.revived(row.args)), arguments.revived(row.kwargs)
    args, kwargs, unreadable = serialized.given(args, kwargs, row.options)
    return Started(
        row.id,
        row.name,
        args,
        kwargs,
        attempts,
        row.attempt_limit,
        row.subject,
        row.request_id,
        row.options,
        row.priority,
        row.queue,
        counted,
        unreadable,
    )


def _keys(ids: Collection[UUID]) -> list[UUID] | str:
    return list(ids) if connection.vendor == "postgresql" else json.dumps([id.hex for id in ids])
