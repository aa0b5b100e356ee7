"""The ledger's tables: one row for the whole life of each task, counts, and the queues' switches."""

from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from celery_ledger import databases
from celery_ledger.uuid7 import uuid7

__all__ = [
    "PRIORITIES",
    "Canary",
    "Chord",
    "Decision",
    "DurableTask",
    "FailedAttempt",
    "FiguresSample",
    "Forgone",
    "Heartbeat",
    "KeptGroup",
    "Mark",
    "Pace",
    "Part",
    "Priority",
    "QueueLimit",
    "QueueSample",
    "QueueSwitch",
    "Reaction",
    "Result",
    "RevokedStamp",
    "Step",
    "Tally",
    "TaskRate",
]

#: Which of a queue's due tasks goes first: 0 comes first, as with Celery on Redis. This also holds on RabbitMQ, where
#: Celery's own order is reversed, because the ledger itself applies it.
PRIORITIES = tuple(range(10))


class InUse(models.Manager[Any]):
    """Rows of the ledger in use; see :mod:`celery_ledger.databases`. Never those of a replica, which may be late."""

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return the rows of the database in use, unless another one was asked for."""
        return models.QuerySet(model=self.model, using=self.db, hints=self._hints)  # type: ignore[attr-defined]

    @property
    def db(self) -> str:
        """The alias."""
        return self._db or databases.current()


class Row(models.Model):
    """A row of the ledger, in whichever database."""

    objects: ClassVar[models.Manager[Self]] = InUse()

    class Meta:
        abstract = True


class Priority(models.IntegerChoices):
    """Names for three of the :data:`PRIORITIES`."""

    HIGH = 0
    NORMAL = 5
    LOW = 9


class DurableTask(Row):
    """
    One call of one task: outbox entry, receipt, retry clock and dead letter in one row.

    It exists if and only if the transaction that enqueued it committed. All times are the database's. Only
    :mod:`celery_ledger.rows.ledger` changes a status.
    """

    class Status(models.TextChoices):
        #: Committed with the caller's changes; due at ``available_at``.
        PENDING = "pending"
        #: Handed to the broker under a lease.
        PUBLISHED = "published"
        #: Claimed by a worker under a lease; only tasks with effects outside the database.
        RUNNING = "running"
        #: Effect and status committed together; kept for the retention time.
        SUCCEEDED = "succeeded"
        #: Attempts used up, or an error that no retry can fix; kept until a person decides.
        DEAD = "dead"
        #: A person discarded or cancelled it, with a reason; or it expired before it could run.
        CANCELLED = "cancelled"

    class UniqueFor(models.TextChoices):
        """How long a row holds its ``standing_key``. A released key is not taken again."""

        #: Until a relay publishes it, or until it ends if that is earlier.
        PENDING = "pending"
        #: Until it has ended, whatever the outcome.
        DONE = "done"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False, help_text="Also the Celery task id.")
    name = models.CharField(max_length=255)
    queue = models.CharField(max_length=64)
    status = models.CharField(max_length=9, choices=Status, db_default=Status.PENDING)
    priority = models.SmallIntegerField(db_default=Priority.NORMAL, help_text="0 to 9; 0 is first.")
    args = models.JSONField(default=list)
    kwargs = models.JSONField(default=dict)
    options = models.JSONField(
        null=True, blank=True, help_text="The call's other options: headers, properties, limits."
    )
    canvas = models.UUIDField(null=True, blank=True, help_text="The chain, group or chord it was called with.")
    attempts = models.IntegerField(db_default=0, help_text="How often its body was started, as far as known.")
    attempt_limit = models.IntegerField(
        null=True, blank=True, help_text="Set by a replay: dead again after this many attempts in total."
    )
    lapses = models.SmallIntegerField(
        db_default=0,
        help_text="How often its message was lost; from the second time on it runs alone and each start is counted.",
    )
    subject = models.CharField(  # noqa: DJ001 - null keeps the row out of the partial index
        max_length=64, null=True, blank=True, help_text="The object it is about, such as app.model:42."
    )
    request_id = models.CharField(max_length=64, blank=True, db_default="")
    unique_key = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001 - null is not a key
    unique_until = models.DateTimeField(null=True, blank=True, help_text="When another call may take its unique_key.")
    standing_key = models.CharField(  # noqa: DJ001 - null is not a key
        max_length=255, null=True, blank=True, help_text="A key that it holds for the time set by unique_for."
    )
    unique_for = models.CharField(max_length=7, choices=UniqueFor, null=True, blank=True)  # noqa: DJ001 - see above
    created_at = models.DateTimeField(db_default=Now())
    available_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Cancelled if it has not started by then.")
    held_since = models.DateTimeField(
        null=True, blank=True, help_text="Its due time, if its task's rate limit holds it back."
    )
    published_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    unknown_since = models.DateTimeField(
        null=True, blank=True, help_text="Since when workers have reported its task as unknown."
    )
    last_error = models.TextField(blank=True, db_default="")
    fingerprint = models.CharField(
        max_length=16,
        blank=True,
        db_default="",
        help_text="The kind of its final error; see celery_ledger.rows.kinds.",
    )

    class Meta:
        indexes = [
            models.Index(
                fields=["queue", "priority", "available_at", "id"],
                condition=Q(status="pending"),
                name="ledger_pending",
            ),
            # Not "status = published": the planner would then read all rows in flight to find the few of one message.
            models.Index(fields=["lease_until"], condition=Q(lease_until__isnull=False), name="ledger_leased"),
            models.Index(fields=["completed_at"], condition=Q(status="dead"), name="ledger_dead"),
            # Counts dead letters by kind and by queue, without reading their rows.
            models.Index(
                fields=["fingerprint", "name", "completed_at", "queue"],
                condition=Q(status="dead"),
                name="ledger_dead_kinds",
            ),
            models.Index(
                fields=["expires_at"],
                condition=Q(expires_at__isnull=False, status__in=["pending", "published"]),
                name="ledger_expiring",
            ),
            models.Index(fields=["name"], condition=Q(unknown_since__isnull=False), name="ledger_unknown"),
            models.Index(
                fields=["name", "priority", "held_since", "id"],
                condition=Q(status="pending", held_since__isnull=False),
                name="ledger_held",
            ),
            models.Index(fields=["subject"], condition=Q(subject__isnull=False), name="ledger_subject"),
            # Tasks due at once, which are nearly all, are not in it and pay nothing for it.
            models.Index(
                fields=["available_at", "id"],
                condition=Q(status="pending", available_at__gt=F("created_at")),
                name="ledger_later",
            ),
            models.Index(fields=["canvas"], condition=Q(canvas__isnull=False), name="ledger_canvas"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["unique_key"], condition=Q(unique_key__isnull=False), name="ledger_unique_key"
            ),
            # A row that was taken once does not count as pending here again; otherwise its retry would block a later
            # call.
            models.UniqueConstraint(
                fields=["standing_key"],
                condition=Q(standing_key__isnull=False)
                & (
                    Q(unique_for="pending", status="pending", published_at__isnull=True)
                    | Q(unique_for="done", status__in=["pending", "published", "running"])
                ),
                name="ledger_standing_key",
            ),
        ]
        permissions = [
            ("replay_durabletask", "Can replay dead tasks"),
            ("discard_durabletask", "Can discard dead tasks"),
            ("cancel_durabletask", "Can cancel tasks that wait"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.pk}"


class QueueSwitch(Row):
    """A queue that an operator has paused: its tasks wait in the ledger until it is resumed."""

    queue = models.CharField(max_length=64, primary_key=True)
    paused_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "queue"
        verbose_name_plural = "queues"

    def __str__(self) -> str:
        return f"{self.queue} paused"


class QueueLimit(Row):
    """An operator's limits for a queue, in the whole cluster. A queue without a row is not limited."""

    queue = models.CharField(max_length=64, primary_key=True)
    per_second = models.FloatField(null=True, blank=True, help_text="Tasks that may start per second.")
    concurrency = models.PositiveIntegerField(null=True, blank=True, help_text="Tasks that may run at once.")
    allowance = models.FloatField(default=0, editable=False, help_text="Tasks allowed by the rate at counted_at.")
    counted_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"{self.queue} limited"


class TaskRate(Row):
    """
    A task's rate in the whole cluster, and its remaining allowance at the last count.

    Created at the first count, or when an operator overrides the task's rate.
    """

    name = models.CharField(max_length=255, primary_key=True, help_text="The task's.")
    said = models.CharField(  # noqa: DJ001 - null: nothing was said
        max_length=64,
        null=True,
        blank=True,
        help_text="Overrides the task's own rate_limit; 0: no limit.",
    )
    allowance = models.FloatField(default=1, editable=False, help_text="Tasks allowed at counted_at.")
    counted_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"rate of {self.name}"


class RevokedStamp(Row):
    """A revoked stamp: calls that carry it, now or later, do not run."""

    name = models.CharField(max_length=255)
    value = models.CharField(max_length=255, help_text="As JSON.")
    revoked_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "value"], name="ledger_revoked_stamp")]

    def __str__(self) -> str:
        return f"{self.name} {self.value}"


class Decision(Row):
    """An operator's decision about many tasks, and its progress. Kept for a month; the audit trail permanently."""

    class What(models.TextChoices):
        #: For dead tasks.
        REPLAY = "replay"
        DISCARD = "discard"
        #: For waiting tasks.
        CANCEL = "cancel"
        RUN_NOW = "run-now"

    what = models.CharField(max_length=7, choices=What)
    selection = models.JSONField(
        default=dict,
        help_text="Which tasks; see celery_ledger.desk.dead_letters.Selection and, with a state, "
        "celery_ledger.desk.searching.Search.",
    )
    reason = models.CharField(max_length=500, blank=True, help_text="Why.")
    per_second = models.FloatField(null=True, help_text="How many become due per second; null: all at once.")
    who = models.BigIntegerField(null=True, help_text="The user's id; null: the command line.")
    until = models.DateTimeField(null=True, help_text="Tasks that died or were enqueued later are excluded.")
    reached = models.UUIDField(null=True, help_text="The last task done, where the tasks themselves do not show it.")
    wanted = models.PositiveIntegerField(help_text="Number of tasks when it was decided.")
    done = models.PositiveIntegerField(default=0)
    begun_at = models.DateTimeField(db_default=Now())
    moved_at = models.DateTimeField(db_default=Now(), help_text="When the last batch was done.")
    ended_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.what} {self.done} of {self.wanted}"

    @property
    def percent(self) -> int:
        """The progress in percent."""
        return 100 if self.ended_at is not None or not self.wanted else min(99, 100 * self.done // self.wanted)


class Forgone(Row):
    """
    A discarded task that was pruned: its effect is no longer expected.

    Kept for as long as the object it was about, for the audit of promises.
    """

    name = models.CharField(max_length=255)
    subject = models.CharField(max_length=64)
    receiver = models.CharField(max_length=255, blank=True, help_text="The signal's receiver, if it was a redelivery.")
    forgone_at = models.DateTimeField()
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [models.Index(fields=["subject"], name="ledger_forgone_subject")]

    def __str__(self) -> str:
        return f"{self.name} for {self.subject}"


class Reaction(Row):
    """A receiver of a durable signal, and since when it exists: earlier events do not concern it."""

    receiver = models.CharField(max_length=255, primary_key=True, help_text="Its dispatch_uid.")
    since = models.DateTimeField(null=True, help_text="Null: since the beginning.")

    def __str__(self) -> str:
        return f"{self.receiver} since {self.since or 'the beginning'}"


class FailedAttempt(Row):
    """A failed attempt. The successful one is in the task's own row: most tasks have no row here."""

    task = models.ForeignKey(DurableTask, on_delete=models.CASCADE, related_name="failed_attempts")
    number = models.IntegerField(help_text="Counted from one.")
    published_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(db_default=Now())
    worker = models.CharField(max_length=255, blank=True)
    error = models.TextField()
    traceback = models.TextField(blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.task_id}"


class Result(Row):
    """
    A task's return value, error or progress report, if the project has no result backend of its own.

    Most tasks have none: a success without a return value is recorded in the task's own row. Deleted with that row.
    """

    id = models.UUIDField(primary_key=True, help_text="The task's.")
    state = models.CharField(max_length=50, help_text="Celery's, or the task's own; PENDING: it is to be forgotten.")
    value = models.TextField(null=True, help_text="JSON, as Celery's backends store it.")  # noqa: DJ001
    traceback = models.TextField(null=True)  # noqa: DJ001 - as in a backend's answer

    def __str__(self) -> str:
        return f"{self.state} of {self.id}"


class Step(Row):
    """
    A step of a chain, called when the one before it has succeeded.

    Rows name a chain and the number of steps that are left, so that no row and no message carries the rest by value.
    """

    pk = models.CompositePrimaryKey("chain", "place")
    chain = models.UUIDField()
    place = models.IntegerField(help_text="Counted from the end: the last step has 0.")
    signature = models.TextField(help_text="JSON, as Celery's signatures have it.")
    canvas = models.UUIDField(db_index=True)

    def __str__(self) -> str:
        return f"step {self.place} of {self.chain}"


class Chord(Row):
    """
    A body that is called when all members of a header have succeeded.

    ``missing`` is lowered only in the transaction that completes a member, by the number of parts that are new in it.
    That keeps it correct.
    """

    id = models.UUIDField(primary_key=True, help_text="The header's group id.")
    body = models.TextField(help_text="JSON, as Celery's signatures have it.")
    shape = models.TextField(  # noqa: DJ001 - null: not nested
        null=True, help_text="Ids of the header's tasks, nested as its results are; null: a plain list."
    )
    size = models.IntegerField(help_text="The number of members.")
    missing = models.IntegerField(help_text="The number of members that are missing.")
    failed_at = models.DateTimeField(null=True, help_text="When its errbacks were called; they are called once.")
    canvas = models.UUIDField(db_index=True)

    def __str__(self) -> str:
        return f"chord {self.id}, {self.missing} of {self.size} missing"


class Part(Row):
    """The result of a chord's member."""

    chord = models.UUIDField()  # Without a foreign key, whose locks would conflict with the counter's.
    task = models.UUIDField(help_text="The member's id.")
    place = models.IntegerField(help_text="Among the results.")
    value = models.TextField(help_text="JSON, as Celery's backends store it.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chord", "task"], name="ledger_part")]

    def __str__(self) -> str:
        return f"part {self.place} of {self.chord}"


class LargeResult(Row):
    """A large result that is passed to other tasks, whose rows refer to it."""

    id = models.UUIDField(primary_key=True)
    value = models.TextField(help_text="JSON, as arguments are.")
    canvas = models.UUIDField(db_index=True)

    def __str__(self) -> str:
        return f"large result {self.id}"


class KeptGroup(Row):
    """A saved ``GroupResult``, if the project has no result backend of its own."""

    id = models.CharField(max_length=255, primary_key=True)
    result = models.TextField(help_text="JSON, as Celery's backends store it.")
    saved_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"group {self.id}"


class Tally(Row):
    """
    Counts of task outcomes, updated in the transaction of the outcome.

    The counts of one task are spread over slots, one for each process, so that no process waits for another
    process's transaction; see :mod:`celery_ledger.rows.tally`.
    """

    class Outcome(models.TextChoices):
        #: Handed to the broker; ``messages`` says in how many messages.
        PUBLISHED = "published"
        SUCCEEDED = "succeeded"
        #: Failed and due again.
        RETRIED = "retried"
        DEAD = "dead"
        #: Brought back because its message or its worker was lost.
        RESCUED = "rescued"
        REPLAYED = "replayed"
        DISCARDED = "discarded"
        #: Ended by a person or the caller before it had run.
        CANCELLED = "cancelled"

    pk = models.CompositePrimaryKey("queue", "name", "outcome", "bucket", "slot")
    queue = models.CharField(max_length=64)
    name = models.CharField(max_length=255)
    outcome = models.CharField(max_length=9, choices=Outcome)
    bucket = models.SmallIntegerField(help_text="Which of the lag histogram's buckets; 0 for all but successes.")
    slot = models.SmallIntegerField()
    rows = models.BigIntegerField()
    messages = models.BigIntegerField(default=0)
    seconds = models.FloatField(default=0, help_text="Sum of the lags.")

    def __str__(self) -> str:
        return f"{self.rows} {self.name} {self.outcome}"


class Pace(Row):
    """
    The run time of a task's bodies, measured by workers, and how many of its rows may ride together.

    Counts only go up. Losing a row loses only what has been learned; see :mod:`celery_ledger.rows.paces`.
    """

    name = models.CharField(max_length=255, primary_key=True, help_text="The task's.")
    seconds = models.FloatField(default=0, help_text="Average run time of the latest bodies.")
    bodies = models.BigIntegerField(default=0, help_text="Number of measured bodies.")
    body_seconds = models.FloatField(db_default=0.0, help_text="Their total run time.")
    riders = models.FloatField(help_text="Rows that may share a transaction: halved by a conflict, then grows again.")
    alone_until = models.DateTimeField(
        null=True, help_text="Too many conflicts: until then its rows do not share transactions."
    )
    conflicts = models.BigIntegerField(default=0)
    slices = models.BigIntegerField(default=0, help_text="Transactions, shared by several of its rows or not.")
    slice_rows = models.BigIntegerField(default=0)
    slice_seconds = models.FloatField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {1000 * self.seconds:.1f} ms"


class QueueSample(Row):
    """A queue's figures at one moment, taken every ten seconds. Counters start at the beginning."""

    pk = models.CompositePrimaryKey("at", "queue")
    at = models.DateTimeField(help_text="A multiple of ten seconds.")
    queue = models.CharField(max_length=64)
    pending = models.PositiveIntegerField()
    published = models.PositiveIntegerField()
    running = models.PositiveIntegerField()
    dead = models.PositiveIntegerField()
    retrying = models.PositiveIntegerField(db_default=0, help_text="Pending tasks that have failed before.")
    oldest_pending_seconds = models.FloatField(null=True)
    messages = models.PositiveIntegerField(null=True, help_text="Waiting at the broker; null: unknown.")
    succeeded = models.BigIntegerField()
    failed = models.BigIntegerField(help_text="Attempts that failed.")
    lag = models.FloatField(help_text="Seconds from due to done, summed up.")

    def __str__(self) -> str:
        return f"{self.queue} at {self.at}"


class FiguresSample(Row):
    """
    The counters of each task at one moment, from the beginning; see :mod:`celery_ledger.watch.figures`.

    One row a minute for an hour, every five minutes for twelve, and every hour for eight days.
    """

    at = models.DateTimeField(primary_key=True, help_text="A multiple of a minute.")
    figures = models.JSONField(help_text="A list for each queue and task.")

    def __str__(self) -> str:
        return f"figures at {self.at}"


class Mark(Row):
    """An event that charts show: a new release, or a queue that was paused."""

    class Kind(models.TextChoices):
        RELEASE = "release"
        QUEUE = "queue"

    at = models.DateTimeField(db_default=Now(), db_index=True)
    kind = models.CharField(max_length=7, choices=Kind)
    text = models.CharField(max_length=200, help_text="The release, or what was done to which queue.")

    def __str__(self) -> str:
        return self.text


class Heartbeat(Row):
    """A running process that reports at intervals."""

    class Kind(models.TextChoices):
        RELAY = "relay"
        WORKER = "worker"
        BEAT = "beat"

    class Wish(models.TextChoices):
        """An operator's instruction to the process."""

        #: A worker takes no more messages and ends those that it has; it stays.
        DRAIN = "drain"
        #: It finishes what it holds, and then exits.
        STOP = "stop"

    process = models.CharField(max_length=255, primary_key=True, help_text="Such as relay 4711 at host-1.")
    kind = models.CharField(max_length=6, choices=Kind)
    state = models.CharField(max_length=64, help_text="Its own report; ok if nothing is wrong.")
    started_at = models.DateTimeField(db_default=Now())
    beaten_at = models.DateTimeField(db_default=Now())
    queues = models.JSONField(default=list, help_text="A worker's.")
    active = models.PositiveIntegerField(default=0, help_text="Messages that a worker is processing.")
    received = models.BigIntegerField(default=0, help_text="Messages that a worker has accepted since it started.")
    received_at = models.DateTimeField(db_default=Now(), help_text="When that was last seen to change.")
    # Processes of an older release do not fill in the fields below.
    release = models.CharField(max_length=64, db_default="", help_text="The project's release, from LEDGER_RELEASE.")
    memory = models.BigIntegerField(
        null=True, help_text="Memory of the process and its children, in bytes; null: unknown."
    )
    doing = models.JSONField(null=True, help_text="A worker's running messages, longest first.")
    wish = models.CharField(max_length=5, choices=Wish, db_default="", help_text="An operator's instruction to it.")

    def __str__(self) -> str:
        return f"{self.process}: {self.state}"


class Canary(Row):
    """The latest test message of a queue, which shows whether workers take messages from it."""

    queue = models.CharField(max_length=64, primary_key=True)
    sent_at = models.DateTimeField(db_default=Now(), help_text="When the oldest one that has not returned was sent.")
    repeated_at = models.DateTimeField(db_default=Now(), help_text="When the last one was sent.")
    seen_at = models.DateTimeField(null=True, help_text="When a worker last accepted one.")

    class Meta:
        verbose_name_plural = "canaries"

    def __str__(self) -> str:
        return f"canary of {self.queue}"
