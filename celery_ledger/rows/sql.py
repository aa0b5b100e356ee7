"""
The ledger's statements that the ORM cannot say in one round trip, for PostgreSQL and for SQLite.

They are measured: one INSERT for all tasks of a transaction, one UPDATE .. RETURNING to claim a batch,
one to complete it, one INSERT .. SELECT for its results and its counts. All times are the database's.
"""

from dataclasses import dataclass
from functools import cache

from celery_ledger.redeliveries import REDELIVERIES

#: Key of the advisory lock that a sleeping relay holds; see celery_ledger/relay/wakeup.py.
ASLEEP_LOCK = 4_915_002
#: Key of the advisory lock of the relay that prunes, held for each of its statements.
PRUNER_LOCK = 4_915_004
#: Key of the advisory lock of the relay that counts the places of keys; see celery_ledger/rows/places.py.
PLACES_LOCK = 4_915_006
#: The channel on which a sleeping relay listens.
WAKE_CHANNEL = "celery_ledger"
#: What a notification on it says after rows that became due earlier were made pending again.
OLD_ROWS = "old rows"
#: Class of the advisory locks of callers that wait for a result, and the channel on which they listen; see
#: celery_ledger/waiting.py.
WAITING_LOCKS = 4_915
RESULTS_CHANNEL = "celery_ledger_results"
#: If more tasks than this end in one transaction, all are notified without checking for waiters: locks are scarce.
MOST_LOOKED_AFTER = 32
#: Ids in one notification: PostgreSQL takes 8,000 bytes.
IDS_A_NOTIFICATION = 200
#: Size in bytes of a notification that names new rows to a sleeping relay.
LONGEST_NEWS = 7_900

#: Upper bounds of the lag histogram's buckets, in seconds; longer lags have a bucket of their own.
LAG_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)

COLUMNS = (
    "id, name, queue, priority, args, kwargs, subject, request_id, unique_key, available_at, expires_at, options, "
    "standing_key, unique_for, unique_until, canvas"
)


@dataclass(frozen=True)
class Statements:
    """
    One database's form of each statement.

    enqueue: turn calls into rows, except those whose ``unique_key`` or id is known; return which did.
    enqueue_one: the same for a single call, in half the time: most of ``enqueue`` is planning, and reading its arrays.
    due: whether any pending row of some queues is due.
    unknown_queues: names of the queues of pending rows, except known ones.
    claim: publish pending rows under a lease.
    claim_known: publish pending rows that a relay was notified of, in libpq's form. None: there are no notifications.
    earliest_leases: the earliest lease that has ended, and that of a published row, from given times on. None: no old
        versions of rows would be read.
    complete: mark published rows succeeded, to be committed with their effects.
    take_back: undo that for rows of this transaction that were not run, or that failed.
    start: mark one published row running under a lease, if its task is the one named and an attempt is left.
    end: mark one running row succeeded, in the transaction in which more is written about it.
    finish: mark one running row succeeded and count it; return whether it was still held. Also start another row, as
        start does, and return it. None: it takes a transaction.
    finish_kept: the same, and write its row of django-celery-results.
    finish_own: the same, and write its return value to the ledger's own table.
    outcomes: count how attempts ended.
    results: the same, and write their rows of django-celery-results.
    own_results: the same, and write what they returned or raised to the ledger's own table; wake their waiters.
    say: write a running task's progress, unless the task has ended.
    tally: add to counts, in this order; SQLite: to one.
    pace: add a process's measurements of tasks to what is known; return for which tasks something was known.
    replay: make dead rows pending, due one after the other, without keys that others may hold by now; return which
        rows were dead.
    discard: mark dead rows cancelled with a reason; return which rows were dead.
    chords: write chords that wait for a number of parts; existing ones wait for that many more.
    parts: add the results of chords' members, and lower the chords' counters by the number of new ones, in the order
        of their ids; return the chords as they are then.
    whole: of these chords, those that miss no part, and whether nothing more is to follow in their canvases.
    prune: delete ended rows with what depends on them, and keep records of those given up; return how many, and the
        last one.
    prune_results: the same, and delete their rows of django-celery-results.
    """

    enqueue: str
    enqueue_one: str
    due: str
    unknown_queues: str
    claim: str
    claim_known: str | None
    earliest_leases: str | None
    complete: str
    take_back: str
    start: str
    end: str
    finish: str | None
    finish_kept: str | None
    finish_own: str | None
    outcomes: tuple[str, ...]
    results: tuple[str, ...]
    own_results: tuple[str, ...]
    say: str
    tally: str
    pace: str
    replay: str
    discard: str
    chords: str
    parts: tuple[str, ...]
    whole: str
    prune: str | None
    prune_results: str | None


#: What a result's state counts as.
_OUTCOME = """CASE {} WHEN 'SUCCESS' THEN 'succeeded' WHEN 'RETRY' THEN 'retried' WHEN 'REVOKED' THEN 'cancelled'
              ELSE 'dead' END"""
_TALLY = "INSERT INTO celery_ledger_tally AS tally (queue, name, outcome, bucket, slot, rows, messages, seconds)"
_ADD_UP = """
    ON CONFLICT (queue, name, outcome, bucket, slot) DO UPDATE SET rows = tally.rows + excluded.rows,
        messages = tally.messages + excluded.messages, seconds = tally.seconds + excluded.seconds
"""
_TALLY_MANY = f"""
    {_TALLY}
    SELECT queue, name, %(outcome)s, 0, %(slot)s, rows, messages, 0
    FROM unnest(%(queues)s::text[], %(names)s::text[], %(rows)s::int[], %(messages)s::int[])
         AS count(queue, name, rows, messages)
    {_ADD_UP}
"""
_TALLY_ONE = f"{_TALLY} VALUES (%(queue)s, %(name)s, %(outcome)s, 0, %(slot)s, %(rows)s, %(messages)s, 0) {_ADD_UP}"

# The lag counts from when the task was due; after a retry, from when it was enqueued.
_POSTGRESQL_LAG = """
    CASE WHEN outcome.state = 'SUCCESS' THEN greatest(0, extract(epoch FROM clock_timestamp()
        - CASE WHEN task.attempts <= 1 THEN task.available_at ELSE task.created_at END)) END AS lag
"""
# Ordered, so that two processes of one slot never wait for each other.
_POSTGRESQL_COUNTED = f"""
    {_TALLY}
    SELECT queue, name, outcome, CASE WHEN lag IS NULL THEN 0
               ELSE width_bucket(lag, ARRAY[{", ".join(map(str, LAG_BOUNDS))}]::numeric[]) END,
           %(slot)s, count(*), 0, coalesce(sum(lag), 0)
    FROM done GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    {_ADD_UP}
"""

PACE_COLUMNS = ("name", "bodies", "seconds", "slices", "slice_rows", "slice_seconds", "conflicts", "rides")
# The latest bodies count most. A conflict halves the size of a slice; slices without one let it grow.
_PACE = """
    UPDATE celery_ledger_pace AS pace
    SET seconds = CASE WHEN noted.bodies > 0 THEN pace.seconds + (noted.seconds / noted.bodies - pace.seconds)
                           * noted.bodies / ({least}(pace.bodies, %(memory)s) + noted.bodies)
                       ELSE pace.seconds END,
        bodies = pace.bodies + noted.bodies,
        body_seconds = pace.body_seconds + noted.seconds,
        riders = CASE WHEN noted.conflicts > 0 THEN {greatest}(2.0, pace.riders / 2)
                      WHEN noted.rides > 0 THEN {least}(%(most)s, pace.riders
                          + CASE WHEN pace.conflicts = 0
                                 THEN {least}({greatest}(%(growth)s, pace.riders), noted.rides) ELSE 1 END)
                      ELSE pace.riders END,
        alone_until = CASE WHEN noted.conflicts > 0 AND pace.riders < 4 THEN {later} ELSE pace.alone_until END,
        conflicts = pace.conflicts + noted.conflicts,
        slices = pace.slices + noted.slices,
        slice_rows = pace.slice_rows + noted.slice_rows,
        slice_seconds = pace.slice_seconds + noted.slice_seconds
    FROM {noted}
    WHERE pace.name = noted.name{only}
    RETURNING {name}
"""

_REPLACE = (
    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, value = excluded.value, traceback = excluded.traceback"
)
# A success is never overwritten: progress may arrive late.
_SAY = """
    INSERT INTO celery_ledger_result (id, state, value, traceback)
    SELECT task.id, %(state)s, %(value)s, NULL FROM celery_ledger_durabletask AS task
    WHERE task.id = %(id)s AND task.status IN ('pending', 'published', 'running'){patience}
    {replace} WHERE celery_ledger_result.state <> 'SUCCESS'
"""

_CHORDS = """
    INSERT INTO celery_ledger_chord AS chord (id, body, size, missing, canvas)
    {given} WHERE true ORDER BY 1
    ON CONFLICT (id) DO UPDATE SET size = chord.size + excluded.size, missing = chord.missing + excluded.missing
"""

_WHOLE = """
    SELECT chord.id, chord.canvas, chord.body, chord.shape, EXISTS (
        SELECT 1 FROM celery_ledger_revokedstamp AS stamp
        WHERE stamp.name = 'celery_ledger.canvas' AND stamp.value = '"' || {canvas} || '"'
    )
    FROM celery_ledger_chord AS chord
    WHERE chord.missing = 0 AND chord.id {among} ORDER BY chord.id
"""

# One round trip, so that its locks are held only while the server works and not while a process here waits for the CPU;
# nor for the disk, because rows that a crash brings back are pruned again. Arrays, or the planner may read the whole
# table of results.
_POSTGRESQL_PRUNE = """
    WITH ended AS MATERIALIZED (
        SELECT id, status, name, subject, kwargs, options, completed_at, last_error FROM celery_ledger_durabletask
        WHERE (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
          AND (SELECT NOT %(alone)s::boolean OR pg_try_advisory_xact_lock({lock}))
          AND id > %(after)s AND id <= %(until)s
          AND status IN ('succeeded', 'cancelled') AND completed_at < %(cutoff)s
        ORDER BY id LIMIT %(size)s FOR UPDATE SKIP LOCKED
    ), forgone AS (
        INSERT INTO celery_ledger_forgone (name, subject, receiver, forgone_at, reason)
        SELECT name, subject,
               CASE WHEN name IN {redeliveries} THEN coalesce(kwargs ->> 'dispatch_uid', '') ELSE '' END,
               completed_at, left(last_error, 500)
        FROM ended WHERE status = 'cancelled' AND subject IS NOT NULL
    ), {results}own_results AS (
        DELETE FROM celery_ledger_result WHERE id = ANY(ARRAY(SELECT id FROM ended))
    ), attempts AS (
        DELETE FROM celery_ledger_failedattempt WHERE task_id = ANY(ARRAY(SELECT id FROM ended))
    ), gone AS (
        DELETE FROM celery_ledger_durabletask WHERE id = ANY(ARRAY(SELECT id FROM ended))
    )
    SELECT count(*), (SELECT id FROM ended ORDER BY id DESC LIMIT 1) FROM ended
"""

# Where the known names leave a gap, the index is asked for the first name in it, and then for the next: the rows of
# known queues, of which there may be many, and what is left of deleted ones are never read.
_UNKNOWN_QUEUES = """
    WITH RECURSIVE known(name) AS (
        SELECT '' UNION {known}
    ), gap(above, below) AS (
        SELECT name, lead(name) OVER (ORDER BY name) FROM known
    ), unknown(name, below) AS (
        SELECT {first_in_gap}, below FROM gap
        UNION ALL
        SELECT {next_in_gap}, below FROM unknown WHERE name IS NOT NULL
    )
    SELECT name FROM unknown WHERE name IS NOT NULL LIMIT %(limit)s
"""
_FIRST_BETWEEN = """
    CASE WHEN {1} IS NULL
         THEN (SELECT queue FROM celery_ledger_durabletask WHERE status = 'pending' AND queue > {0}
               ORDER BY queue LIMIT 1)
         ELSE (SELECT queue FROM celery_ledger_durabletask WHERE status = 'pending' AND queue > {0} AND queue < {1}
               ORDER BY queue LIMIT 1)
    END
"""
_IN_GAPS = {
    "first_in_gap": _FIRST_BETWEEN.format("gap.above", "gap.below"),
    "next_in_gap": _FIRST_BETWEEN.format("unknown.name", "unknown.below"),
}

# A relay that slept publishes a due row while it claims it, so the message may arrive first.
_AT_THE_BROKER = """(status = 'published'
               OR status = 'pending' AND published_at IS NULL AND available_at <= statement_timestamp())"""

#: ``nesting`` distinguishes a call from one that took over its id.
_END = """
    UPDATE celery_ledger_durabletask SET status = 'succeeded', lease_until = NULL, completed_at = {now}
    WHERE id = %(id)s AND attempts = %(attempts)s AND status IN ('running', 'pending', 'published')
      AND CAST(coalesce(options -> 'canvas' ->> 'replaced_task_nesting', '0') AS text) = %(nesting)s
"""

_POSTGRESQL_COMPLETE = f"""
    UPDATE celery_ledger_durabletask
    SET status = 'succeeded', attempts = attempts + %(counted)s, completed_at = clock_timestamp(),
        lease_until = NULL, published_at = coalesce(published_at, statement_timestamp())
    WHERE id = ANY(ARRAY(
        SELECT id FROM celery_ledger_durabletask
        WHERE id = ANY(%(ids)s) AND {_AT_THE_BROKER} AND lapses <= %(most_lapses)s
          AND (expires_at IS NULL OR expires_at > statement_timestamp())
        ORDER BY id FOR UPDATE SKIP LOCKED
    ))
    RETURNING id, name, args, kwargs, attempts, attempt_limit, subject, request_id, options, priority, queue
"""

_POSTGRESQL_TAKE_BACK = """
    UPDATE celery_ledger_durabletask
    SET status = 'published', attempts = attempts - 1, completed_at = NULL,
        lease_until = statement_timestamp() + %(lease)s * interval '1 second'
    WHERE id = ANY(%(ids)s) AND status = 'succeeded'
"""

# The row is locked and read before it is changed: if another process has taken it meanwhile, it keeps it.
_POSTGRESQL_START = """
    UPDATE celery_ledger_durabletask
    SET status = 'running', attempts = attempts + 1, published_at = coalesce(published_at, statement_timestamp()),
        lease_until = statement_timestamp() + %(lease)s * interval '1 second'
    WHERE id = (
        SELECT id FROM celery_ledger_durabletask
        WHERE id = %({id})s AND {at_the_broker} AND name = %(name)s
          AND attempts < coalesce(attempt_limit, %(limit)s)
          AND (expires_at IS NULL OR expires_at > statement_timestamp())
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id, name, args, kwargs, attempts, attempt_limit, subject, request_id, options, priority, queue
"""
#: Starts the next row in the statement that ends one: one commit and one round trip for both.
_NEXT = f"next AS ({_POSTGRESQL_START.format(id='next', at_the_broker=_AT_THE_BROKER)})"

#: Ends a row's attempt, if no other worker has taken the row over.
_HELD = """held AS (
            UPDATE celery_ledger_durabletask
            SET status = 'succeeded', lease_until = NULL, completed_at = statement_timestamp()
            WHERE id = %(id)s AND attempts = %(attempts)s AND status IN ('running', 'pending', 'published')
            RETURNING id
        )"""
#: A chord that misses at most this many parts is locked before a member is counted.
FEW_MISSING = 64

#: The same for a member of a chord, with its part, if the chord still misses others; otherwise nothing is ended or
#: started, because the member that completes it calls the body, in a transaction. The row is locked before the chord,
#: as everywhere. While many parts are missing, members would only wait for each other: none locks the chord until it
#: lowers the counter, at the end. If the others ended meanwhile and it is the last one after all, that is an error.
_HELD_MEMBER = f"""mine AS MATERIALIZED (
            SELECT id FROM celery_ledger_durabletask
            WHERE id = %(id)s AND attempts = %(attempts)s AND status IN ('running', 'pending', 'published')
            FOR UPDATE
        ), few AS MATERIALIZED (
            SELECT chord.id FROM celery_ledger_chord AS chord, mine
            WHERE chord.id = %(chord)s
              AND (SELECT missing FROM celery_ledger_chord WHERE id = %(chord)s) <= {FEW_MISSING}
              AND chord.missing > 1 FOR UPDATE OF chord
        ), waiting AS MATERIALIZED (
            SELECT id FROM few
            UNION ALL
            SELECT chord.id FROM celery_ledger_chord AS chord, mine
            WHERE chord.id = %(chord)s AND chord.missing > {FEW_MISSING}
        ), part AS (
            INSERT INTO celery_ledger_part (chord, task, place, value)
            SELECT id, %(id)s::uuid, %(place)s::int, %(value)s::text FROM waiting
            ON CONFLICT (chord, task) DO NOTHING
            RETURNING chord
        ), lowered AS (
            UPDATE celery_ledger_chord AS chord
            SET missing = CASE WHEN missing > 1 THEN missing - 1 ELSE ('the last part, missing: ' || missing)::int END
            FROM part WHERE chord.id = part.chord
        ), held AS (
            UPDATE celery_ledger_durabletask
            SET status = 'succeeded', lease_until = NULL, completed_at = statement_timestamp()
            WHERE id = (SELECT id FROM mine) AND EXISTS (SELECT FROM waiting)
            RETURNING id
        )"""
_NEXT_AFTER_MEMBER = _NEXT.replace("FOR UPDATE", "AND EXISTS (SELECT FROM waiting) FOR UPDATE")
_FINISHED = "SELECT ended.rows, next.* FROM (SELECT count(*) AS rows FROM held) AS ended LEFT JOIN next ON true"


# A waiter holds a shared lock on the task's id; the statement that ends the task notifies on commit if it cannot take
# that lock exclusively. If it can, it holds the lock until the commit, so that a caller that begins to wait meanwhile
# sees that the task is about to end.
_AWAITED = f"""awaited AS (
            SELECT id::text, row_number() OVER () / {IDS_A_NOTIFICATION} AS portion FROM done
            WHERE state <> 'RETRY'
              AND CASE WHEN %(many)s THEN true
                       ELSE NOT pg_try_advisory_xact_lock({WAITING_LOCKS}, hashtext(id::text)) END
        )"""
_TOLD = f"SELECT pg_notify('{RESULTS_CHANNEL}', string_agg(id, ',')) FROM awaited GROUP BY portion"
_FINISHED_AND_TOLD = f"""
        {_FINISHED}
        CROSS JOIN (
            SELECT count(pg_notify('{RESULTS_CHANNEL}', ids))
            FROM (SELECT string_agg(id, ',') AS ids FROM awaited GROUP BY portion) AS told
        ) AS notified
"""


def _results(held: str = "", join: str = "", told: str = _TOLD) -> str:
    return f"""
        WITH {held}done AS MATERIALIZED (
            SELECT task.id, coalesce(task.options ->> 'task_id', task.id::text) AS task_id, task.name, task.queue,
                   task.created_at, task.published_at, outcome.state, outcome.result, outcome.traceback,
                   CASE WHEN %(extended)s THEN task.args::text END AS args,
                   CASE WHEN %(extended)s THEN task.kwargs::text END AS kwargs,
                   {_OUTCOME.format("outcome.state")} AS outcome, {_POSTGRESQL_LAG}
            FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(results)s::text[], %(tracebacks)s::text[])
                 AS outcome(id, state, result, traceback)
            JOIN celery_ledger_durabletask AS task ON task.id = outcome.id {join}
        ), counted AS (
            {_POSTGRESQL_COUNTED}
        ), stored AS (
            INSERT INTO django_celery_results_taskresult
                (task_id, task_name, periodic_task_name, task_args, task_kwargs, status, worker, content_type,
                 content_encoding, result, date_created, date_started, date_done, traceback, meta)
            SELECT task_id, name, NULL, args, kwargs, state, %(worker)s, 'application/json', 'utf-8',
                   result, created_at, published_at, clock_timestamp(), traceback, %(meta)s
            FROM done
            ON CONFLICT (task_id) DO UPDATE SET status = excluded.status, worker = excluded.worker,
                result = excluded.result, date_done = excluded.date_done, traceback = excluded.traceback,
                meta = excluded.meta, task_name = excluded.task_name, task_args = excluded.task_args,
                task_kwargs = excluded.task_kwargs
        ), {_AWAITED}
        {told}
        """


def _own_results(held: str = "", join: str = "", told: str = _TOLD) -> str:
    return f"""
        WITH {held}done AS MATERIALIZED (
            SELECT task.id, task.name, task.queue, outcome.state, outcome.result, outcome.traceback,
                   {_OUTCOME.format("outcome.state")} AS outcome, {_POSTGRESQL_LAG}
            FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(results)s::text[], %(tracebacks)s::text[])
                 AS outcome(id, state, result, traceback)
            JOIN celery_ledger_durabletask AS task ON task.id = outcome.id {join}
        ), counted AS (
            {_POSTGRESQL_COUNTED}
        ), stored AS (
            INSERT INTO celery_ledger_result (id, state, value, traceback)
            SELECT id, state, result, traceback FROM done WHERE result IS NOT NULL ORDER BY id
            {_REPLACE}
        ), {_AWAITED}
        {told}
        """


# Which rows are due, in the order in which they go out; nothing if there are too many to name.
_NEWS = f"""
    SELECT CASE WHEN octet_length(due.rows) <= {LONGEST_NEWS} THEN due.rows ELSE '' END
    FROM (
        SELECT json_agg(json_build_array(id, name, queue, priority) ORDER BY priority, id)::text AS rows FROM enqueued
        WHERE available_at <= statement_timestamp()
    ) AS due
"""

POSTGRESQL = Statements(
    # The sleeping relay holds the lock exclusively: a caller that cannot share it wakes the relay on commit. One text
    # for any number of calls, so that it is planned once. In the order of the keys, so that two blocks with two keys in
    # common never deadlock.
    enqueue=f"""
        WITH enqueued AS (
            INSERT INTO celery_ledger_durabletask ({COLUMNS})
            SELECT id, name, queue, priority, args::jsonb, kwargs::jsonb, subject, request_id, unique_key,
                   coalesce(eta, statement_timestamp() + countdown * interval '1 second'),
                   coalesce(expiry, statement_timestamp() + lifetime * interval '1 second'),
                   options::jsonb, standing_key, unique_for, statement_timestamp() + term * interval '1 second',
                   canvas
            FROM unnest(%(ids)s::uuid[], %(names)s::text[], %(queues)s::text[], %(priorities)s::smallint[],
                        %(args)s::text[], %(kwargs)s::text[], %(subjects)s::text[], %(request_ids)s::text[],
                        %(unique_keys)s::text[], %(etas)s::timestamptz[], %(countdowns)s::float8[],
                        %(expiries)s::timestamptz[], %(lifetimes)s::float8[], %(options)s::text[],
                        %(standing_keys)s::text[], %(unique_fors)s::text[], %(terms)s::float8[],
                        %(canvases)s::uuid[])
                 WITH ORDINALITY AS call(id, name, queue, priority, args, kwargs, subject, request_id, unique_key,
                                         eta, countdown, expiry, lifetime, options, standing_key, unique_for, term,
                                         canvas, place)
            ORDER BY unique_key, standing_key, place
            ON CONFLICT DO NOTHING
            RETURNING id, name, queue, priority, available_at
        )
        SELECT CASE WHEN NOT pg_try_advisory_xact_lock_shared({ASLEEP_LOCK}) THEN pg_notify('{WAKE_CHANNEL}', ({_NEWS}))
               END,
               ARRAY(SELECT id FROM enqueued)
    """,
    # One row's news always fits into a notification.
    enqueue_one=f"""
        INSERT INTO celery_ledger_durabletask ({COLUMNS})
        VALUES (%s, %s, %s, %s, %s::jsonb, %s::jsonb, %s, %s, %s,
                coalesce(%s::timestamptz, statement_timestamp() + %s::float8 * interval '1 second'),
                coalesce(%s::timestamptz, statement_timestamp() + %s::float8 * interval '1 second'),
                %s::jsonb, %s, %s, statement_timestamp() + %s::float8 * interval '1 second', %s)
        ON CONFLICT DO NOTHING
        RETURNING CASE WHEN NOT pg_try_advisory_xact_lock_shared({ASLEEP_LOCK}) THEN pg_notify('{WAKE_CHANNEL}',
            CASE WHEN available_at <= statement_timestamp()
                 THEN json_build_array(json_build_array(id, name, queue, priority))::text END) END
    """,
    # One probe for each queue and priority, so that rows due later are never visited. Ordered, because otherwise the
    # planner reads the whole table to find that a queue is empty.
    due="""
        SELECT EXISTS (
            SELECT FROM (
                SELECT unnest(%(queues)s::text[]) AS queue, unnest(%(back)s::float[]) AS back
            ) AS wanted
            CROSS JOIN unnest(%(priorities)s::int[]) AS level
            CROSS JOIN LATERAL (
                SELECT 1 FROM celery_ledger_durabletask
                WHERE status = 'pending' AND queue = wanted.queue AND priority = level
                  AND available_at <= statement_timestamp()
                  AND available_at >= statement_timestamp() - wanted.back * interval '1 second'
                ORDER BY available_at LIMIT 1
            ) AS task
        )
    """,
    unknown_queues=_UNKNOWN_QUEUES.format(known="SELECT unnest(%(queues)s::text[])", **_IN_GAPS),
    # The commit returns before it is flushed. If a crash of the database undoes a claim, its rows are only published
    # again. Set for this transaction only: a pooler gives the connection to others.
    claim="""
        WITH due AS (
            SELECT task.id, wanted.room,
                   row_number() OVER (
                       PARTITION BY wanted.queue ORDER BY task.priority, task.available_at, task.id
                   ) AS place
            FROM (
                SELECT unnest(%(queues)s::text[]) AS queue, unnest(%(rooms)s::int[]) AS room,
                       unnest(%(back)s::float[]) AS back
            ) AS wanted
            CROSS JOIN unnest(%(priorities)s::int[]) AS level
            CROSS JOIN LATERAL (
                SELECT id, priority, available_at FROM celery_ledger_durabletask
                WHERE status = 'pending' AND queue = wanted.queue AND priority = level
                  AND available_at <= statement_timestamp()
                  AND available_at >= statement_timestamp() - wanted.back * interval '1 second'
                ORDER BY available_at, id LIMIT wanted.room FOR UPDATE SKIP LOCKED
            ) AS task
        )
        UPDATE celery_ledger_durabletask
        SET status = 'published', published_at = statement_timestamp(),
            lease_until = statement_timestamp() + %(lease)s * interval '1 second'
        WHERE (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
          AND id = ANY(ARRAY(SELECT id FROM due WHERE place <= room ORDER BY place LIMIT %(limit)s))
        RETURNING id, name, queue, lapses, priority
    """,
    claim_known="""
        UPDATE celery_ledger_durabletask
        SET status = 'published', published_at = statement_timestamp(),
            lease_until = statement_timestamp() + $2::float8 * interval '1 second'
        WHERE (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
          AND id = ANY(ARRAY(
              SELECT id FROM celery_ledger_durabletask WHERE id = ANY($1::uuid[]) AND status = 'pending'
              ORDER BY id FOR UPDATE SKIP LOCKED
          ))
    """,
    earliest_leases="""
        SELECT statement_timestamp(),
               (SELECT lease_until FROM celery_ledger_durabletask
                WHERE lease_until >= coalesce(%(ended)s::timestamptz, '-infinity')
                  AND lease_until < statement_timestamp()
                ORDER BY lease_until LIMIT 1),
               (SELECT lease_until FROM celery_ledger_durabletask
                WHERE lease_until >= coalesce(%(published)s::timestamptz, '-infinity') AND status = 'published'
                ORDER BY lease_until LIMIT 1)
    """,
    complete=_POSTGRESQL_COMPLETE,
    start=_POSTGRESQL_START.format(id="id", at_the_broker=_AT_THE_BROKER),
    end=_END.format(now="statement_timestamp()"),
    finish=f"""
        WITH {_HELD}, {_NEXT}, done AS MATERIALIZED (
            SELECT task.queue, task.name, {_OUTCOME.format("outcome.state")} AS outcome, {_POSTGRESQL_LAG}
            FROM unnest(%(ids)s::uuid[], %(states)s::text[]) AS outcome(id, state)
            JOIN celery_ledger_durabletask AS task ON task.id = outcome.id
            JOIN held ON held.id = task.id
        ), counted AS (
            {_POSTGRESQL_COUNTED}
        )
        {_FINISHED}
    """,
    finish_kept=_results(f"{_HELD}, {_NEXT}, ", "JOIN held ON held.id = task.id", _FINISHED_AND_TOLD),
    finish_own=_own_results(f"{_HELD}, {_NEXT}, ", "JOIN held ON held.id = task.id", _FINISHED_AND_TOLD),
    take_back=_POSTGRESQL_TAKE_BACK,
    outcomes=(
        f"""
        WITH done AS MATERIALIZED (
            SELECT task.queue, task.name, {_OUTCOME.format("outcome.state")} AS outcome, {_POSTGRESQL_LAG}
            FROM unnest(%(ids)s::uuid[], %(states)s::text[]) AS outcome(id, state)
            JOIN celery_ledger_durabletask AS task ON task.id = outcome.id
        )
        {_POSTGRESQL_COUNTED}
        """,
    ),
    # One round trip for both.
    results=(_results(),),
    own_results=(_own_results(),),
    say=_SAY.format(
        replace=_REPLACE, patience="\n      AND (SELECT set_config('lock_timeout', '2s', true)) IS NOT NULL"
    ),
    tally=_TALLY_MANY,
    # The commit is not flushed: a crash of the database loses half a second of measurements. In the order of names, so
    # that two processes never wait for each other.
    pace=_PACE.format(
        least="least",
        greatest="greatest",
        later="statement_timestamp() + %(alone_for)s * interval '1 second'",
        noted="""unnest(%(names)s::text[], %(bodies)s::int[], %(seconds)s::float8[], %(slices)s::int[],
                 %(slice_rows)s::int[], %(slice_seconds)s::float8[], %(conflicts)s::int[], %(rides)s::int[])
                 AS noted(name, bodies, seconds, slices, slice_rows, slice_seconds, conflicts, rides)""",
        only="""
      AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
      AND pace.name = ANY(ARRAY(
          SELECT name FROM celery_ledger_pace WHERE name = ANY(%(names)s::text[]) ORDER BY name FOR UPDATE
      ))""",
        name="pace.name",
    ),
    replay="""
        WITH dead AS MATERIALIZED (
            SELECT task.id, asked.place
            FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS asked(id, place)
            JOIN celery_ledger_durabletask AS task ON task.id = asked.id
            WHERE task.status = 'dead' ORDER BY task.id FOR UPDATE OF task
        ), replayed AS (
            SELECT id, row_number() OVER (ORDER BY place) - 1 AS place FROM dead
        )
        UPDATE celery_ledger_durabletask AS task
        SET status = 'pending', completed_at = NULL, expires_at = NULL, unknown_since = NULL, lapses = 0,
            standing_key = NULL, attempt_limit = attempts + %(attempts)s,
            available_at = statement_timestamp() + (%(start)s + replayed.place * %(pause)s) * interval '1 second'
        FROM replayed
        WHERE task.id = replayed.id
        RETURNING task.id, queue, name
    """,
    discard="""
        UPDATE celery_ledger_durabletask
        SET status = 'cancelled', last_error = substr(%(reason)s || ' (' || last_error || ')', 1, %(longest)s)
        WHERE id = ANY(ARRAY(
            SELECT id FROM celery_ledger_durabletask WHERE id = ANY(%(ids)s) AND status = 'dead' ORDER BY id FOR UPDATE
        ))
        RETURNING id, queue, name
    """,
    chords=_CHORDS.format(
        given="""SELECT id, body, size, size, canvas
        FROM unnest(%(ids)s::uuid[], %(bodies)s::text[], %(sizes)s::int[], %(canvases)s::uuid[])
             AS given(id, body, size, canvas)"""
    ),
    parts=(
        """
        WITH part AS (
            INSERT INTO celery_ledger_part (chord, task, place, value)
            SELECT chord, task, place, value
            FROM unnest(%(chords)s::uuid[], %(tasks)s::uuid[], %(places)s::int[], %(values)s::text[])
                 WITH ORDINALITY AS given(chord, task, place, value, turn)
            ORDER BY turn
            ON CONFLICT (chord, task) DO NOTHING
            RETURNING chord
        ), fresh AS (
            SELECT chord, count(*) AS parts FROM part GROUP BY chord
        )
        UPDATE celery_ledger_chord AS chord SET missing = missing - fresh.parts
        FROM fresh
        WHERE chord.id = fresh.chord AND chord.id = ANY(ARRAY(
            SELECT id FROM celery_ledger_chord WHERE id IN (SELECT chord FROM fresh) ORDER BY id FOR UPDATE
        ))
        RETURNING chord.id, chord.missing
        """,
    ),
    whole=_WHOLE.format(canvas="replace(chord.canvas::text, '-', '')", among="= ANY(%(chords)s::uuid[])"),
    prune=_POSTGRESQL_PRUNE.format(lock=PRUNER_LOCK, redeliveries=REDELIVERIES, results=""),
    prune_results=_POSTGRESQL_PRUNE.format(
        lock=PRUNER_LOCK,
        redeliveries=REDELIVERIES,
        results="""results AS (
            DELETE FROM django_celery_results_taskresult
            WHERE task_id = ANY(ARRAY(SELECT coalesce(options ->> 'task_id', id::text) FROM ended))
        ), """,
    ),
)

_SQLITE_NOW = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"
_SQLITE_LATER = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', {} || ' seconds')"

_SQLITE_RESULTS = f"""
    INSERT INTO django_celery_results_taskresult
        (task_id, task_name, periodic_task_name, task_args, task_kwargs, status, worker, content_type,
         content_encoding, result, date_created, date_started, date_done, traceback, meta)
    SELECT coalesce(task.options ->> 'task_id', outcome.value ->> 'task_id'), task.name, NULL,
           CASE WHEN %(extended)s THEN task.args END,
           CASE WHEN %(extended)s THEN task.kwargs END, outcome.value ->> 'state', %(worker)s,
           'application/json', 'utf-8', outcome.value ->> 'result', task.created_at, task.published_at,
           {_SQLITE_NOW}, outcome.value ->> 'traceback', %(meta)s
    FROM json_each(%(outcomes)s) AS outcome
    JOIN celery_ledger_durabletask AS task ON task.id = outcome.value ->> 'id'
    WHERE true
    ON CONFLICT (task_id) DO UPDATE SET status = excluded.status, worker = excluded.worker,
        result = excluded.result, date_done = excluded.date_done, traceback = excluded.traceback,
        meta = excluded.meta, task_name = excluded.task_name, task_args = excluded.task_args,
        task_kwargs = excluded.task_kwargs
"""
_SQLITE_OUTCOMES = f"""
    {_TALLY}
    SELECT queue, name, outcome,
           CASE WHEN lag IS NULL THEN 0 ELSE {" + ".join(f"(lag >= {bound})" for bound in LAG_BOUNDS)} END,
           %(slot)s, count(*), 0, coalesce(sum(lag), 0)
    FROM (
        SELECT task.queue, task.name, {_OUTCOME.format("outcome.value ->> 'state'")} AS outcome,
               CASE WHEN outcome.value ->> 'state' = 'SUCCESS' THEN max(0, 86400 * (julianday('now') - julianday(
                   CASE WHEN task.attempts <= 1 THEN task.available_at ELSE task.created_at END))) END AS lag
        FROM json_each(%(outcomes)s) AS outcome
        JOIN celery_ledger_durabletask AS task ON task.id = outcome.value ->> 'id'
    ) AS done
    WHERE true GROUP BY 1, 2, 3, 4
    {_ADD_UP}
"""

_SQLITE_OWN_RESULTS = f"""
    INSERT INTO celery_ledger_result (id, state, value, traceback)
    SELECT value ->> 'id', value ->> 'state', value ->> 'result', value ->> 'traceback' FROM json_each(%(outcomes)s)
    WHERE value ->> 'result' IS NOT NULL
    {_REPLACE}
"""

_SQLITE_COMPLETE = f"""
    UPDATE celery_ledger_durabletask
    SET status = 'succeeded', attempts = attempts + %(counted)s, completed_at = {_SQLITE_NOW},
        lease_until = NULL
    WHERE id IN (SELECT value FROM json_each(%(ids)s)) AND status = 'published' AND lapses <= %(most_lapses)s
      AND (expires_at IS NULL OR expires_at > {_SQLITE_NOW})
    RETURNING id, name, args, kwargs, attempts, attempt_limit, subject, request_id, options, priority, queue
"""

SQLITE = Statements(
    enqueue=f"""
        INSERT INTO celery_ledger_durabletask ({COLUMNS})
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
               value ->> 8, coalesce(value ->> 9, {_SQLITE_LATER.format("(value ->> 10)")}),
               coalesce(value ->> 11, {_SQLITE_LATER.format("(value ->> 12)")}), value ->> 13,
               value ->> 14, value ->> 15, {_SQLITE_LATER.format("(value ->> 16)")}, value ->> 17
        FROM json_each(%(calls)s)
        WHERE true
        ON CONFLICT DO NOTHING
        RETURNING id
    """,
    enqueue_one=f"""
        INSERT INTO celery_ledger_durabletask ({COLUMNS})
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, coalesce(%s, {_SQLITE_LATER.format("%s")}),
                coalesce(%s, {_SQLITE_LATER.format("%s")}), %s, %s, %s, {_SQLITE_LATER.format("%s")}, %s)
        ON CONFLICT DO NOTHING
        RETURNING id
    """,
    due=f"""
        SELECT EXISTS (
            SELECT 1 FROM celery_ledger_durabletask
            WHERE status = 'pending' AND queue IN (SELECT value FROM json_each(%(queues)s))
              AND available_at <= {_SQLITE_NOW}
        )
    """,
    unknown_queues=_UNKNOWN_QUEUES.format(known="SELECT value FROM json_each(%(queues)s)", **_IN_GAPS),
    # There is one writer at a time, so nothing is skipped. One queue per call.
    claim=f"""
        UPDATE celery_ledger_durabletask
        SET status = 'published', published_at = {_SQLITE_NOW}, lease_until = {_SQLITE_LATER.format("%(lease)s")}
        WHERE id IN (
            SELECT id FROM celery_ledger_durabletask
            WHERE status = 'pending' AND queue = %(queue)s AND available_at <= {_SQLITE_NOW}
            ORDER BY priority, available_at, id LIMIT %(room)s
        )
        RETURNING id, name, queue, lapses, priority
    """,
    claim_known=None,
    earliest_leases=None,
    complete=_SQLITE_COMPLETE,
    take_back=f"""
        UPDATE celery_ledger_durabletask
        SET status = 'published', attempts = attempts - 1, completed_at = NULL,
            lease_until = {_SQLITE_LATER.format("%(lease)s")}
        WHERE id IN (SELECT value FROM json_each(%(ids)s)) AND status = 'succeeded'
    """,
    start=f"""
        UPDATE celery_ledger_durabletask
        SET status = 'running', attempts = attempts + 1, lease_until = {_SQLITE_LATER.format("%(lease)s")}
        WHERE id = %(id)s AND status = 'published' AND name = %(name)s
          AND attempts < coalesce(attempt_limit, %(limit)s)
          AND (expires_at IS NULL OR expires_at > {_SQLITE_NOW})
        RETURNING id, name, args, kwargs, attempts, attempt_limit, subject, request_id, options, priority, queue
    """,
    end=_END.format(now=_SQLITE_NOW),
    finish=None,
    finish_kept=None,
    finish_own=None,
    outcomes=(_SQLITE_OUTCOMES,),
    results=(_SQLITE_RESULTS, _SQLITE_OUTCOMES),
    own_results=(_SQLITE_OWN_RESULTS, _SQLITE_OUTCOMES),
    say=_SAY.format(replace=_REPLACE, patience=""),
    tally=_TALLY_ONE,
    pace=_PACE.format(
        least="min",
        greatest="max",
        later=_SQLITE_LATER.format("%(alone_for)s"),
        noted=f"(SELECT {', '.join(f'value ->> {n} AS {name}' for n, name in enumerate(PACE_COLUMNS))}"
        " FROM json_each(%(noted)s)) AS noted",
        only="",
        name="name",
    ),
    replay=f"""
        UPDATE celery_ledger_durabletask
        SET status = 'pending', completed_at = NULL, expires_at = NULL, unknown_since = NULL, lapses = 0,
            standing_key = NULL, attempt_limit = attempts + %(attempts)s,
            available_at = {_SQLITE_LATER.format("(%(start)s + replayed.place * %(pause)s)")}
        FROM (
            SELECT task.id, row_number() OVER (ORDER BY asked.key) - 1 AS place
            FROM json_each(%(ids)s) AS asked JOIN celery_ledger_durabletask AS task ON task.id = asked.value
            WHERE task.status = 'dead'
        ) AS replayed
        WHERE celery_ledger_durabletask.id = replayed.id
        RETURNING id, queue, name
    """,
    discard="""
        UPDATE celery_ledger_durabletask
        SET status = 'cancelled', last_error = substr(%(reason)s || ' (' || last_error || ')', 1, %(longest)s)
        WHERE id IN (SELECT value FROM json_each(%(ids)s)) AND status = 'dead'
        RETURNING id, queue, name
    """,
    chords=_CHORDS.format(
        given="SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 2, value ->> 3 FROM json_each(%(chords)s)"
    ),
    parts=(
        """
        INSERT INTO celery_ledger_part (chord, task, place, value)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(%(parts)s)
        WHERE true ORDER BY key
        ON CONFLICT (chord, task) DO NOTHING
        RETURNING chord
        """,
        """
        UPDATE celery_ledger_chord SET missing = missing - fresh.parts
        FROM (SELECT value AS chord, count(*) AS parts FROM json_each(%(new)s) GROUP BY value) AS fresh
        WHERE celery_ledger_chord.id = fresh.chord
        RETURNING id, missing
        """,
    ),
    whole=_WHOLE.format(canvas="chord.canvas", among="IN (SELECT value FROM json_each(%(chords)s))"),
    prune=None,
    prune_results=None,
)


@cache
def of_member(finish: str) -> str:
    """Return the form of ``finish`` for a chord's member whose part does not complete the chord."""
    return finish.replace(_HELD, _HELD_MEMBER).replace(_NEXT, _NEXT_AFTER_MEMBER)


def statements(vendor: str) -> Statements:
    """
    Return the statements for a Django database ``vendor``.

    Raises:
        NotImplementedError: the ledger has no statements for it.
    """
    try:
        return {"postgresql": POSTGRESQL, "sqlite": SQLITE}[vendor]
    except KeyError:
        raise NotImplementedError(f"The ledger works on PostgreSQL and SQLite, not on {vendor}.") from None
