"""
The ledger's statements that the ORM cannot say in one round trip, for PostgreSQL and for SQLite.

They are measured: one INSERT for all tasks of an order, one UPDATE .. RETURNING to claim a batch,
one to complete it, one INSERT .. SELECT for its results. All times are the database's.
"""

from dataclasses import dataclass

#: Key of the advisory lock that a sleeping relay holds; see worker/wakeup.py.
ASLEEP_LOCK = 4_915_002
#: The channel on which a sleeping relay listens.
WAKE_CHANNEL = "shopwire_ledger"

#: Upper bounds of the lag histogram's buckets, in seconds; what is beyond has a bucket of its own.
LAG_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)

COLUMNS = "id, name, queue, priority, args, kwargs, subject, request_id, unique_key, available_at"


@dataclass(frozen=True)
class Statements:
    """
    One database's form of each statement.

    enqueue: to be filled with one ``enqueue_row`` a call.
    due: whether any pending row of some queues is due.
    claim: pending rows become published under a lease.
    complete: published rows become succeeded, to be committed with their effects.
    results: rows of django-celery-results for completed rows; on PostgreSQL it counts them as well.
    outcomes: counts completed rows, where ``results`` cannot.
    tally: adds to one count.
    replay: dead rows become pending, due one after the other.
    """

    enqueue: str
    enqueue_row: str
    due: str
    claim: str
    complete: str
    results: str
    outcomes: str | None
    tally: str
    replay: str


#: What a result's state counts as.
_OUTCOME = "CASE {} WHEN 'SUCCESS' THEN 'succeeded' WHEN 'RETRY' THEN 'retried' ELSE 'dead' END"
_TALLY = "INSERT INTO worker_tally AS tally (queue, name, outcome, bucket, slot, rows, messages, seconds)"
_ADD_UP = """
    ON CONFLICT (queue, name, outcome, bucket, slot) DO UPDATE SET rows = tally.rows + excluded.rows,
        messages = tally.messages + excluded.messages, seconds = tally.seconds + excluded.seconds
"""
_TALLY_ONE = f"{_TALLY} VALUES (%(queue)s, %(name)s, %(outcome)s, 0, %(slot)s, %(rows)s, %(messages)s, 0) {_ADD_UP}"

POSTGRESQL = Statements(
    # The sleeping relay holds the lock exclusively: who cannot share it wakes the relay at commit.
    enqueue=f"""
        WITH enqueued AS (
            INSERT INTO worker_durabletask ({COLUMNS}) VALUES {{rows}}
            ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
        )
        SELECT CASE WHEN NOT pg_try_advisory_xact_lock_shared({ASLEEP_LOCK}) THEN pg_notify('{WAKE_CHANNEL}', '') END
    """,
    enqueue_row="""(%s::uuid, %s, %s, %s, %s::jsonb, %s::jsonb, %s, %s, %s,
        coalesce(%s::timestamptz, statement_timestamp() + %s * interval '1 second'))""",
    # A probe for each queue and priority, so that rows of a later time are never walked over. Ordered, or
    # the planner reads the whole table to find that a queue is empty.
    due="""
        SELECT EXISTS (
            SELECT FROM unnest(%(queues)s::text[]) AS wanted
            CROSS JOIN unnest(%(priorities)s::int[]) AS level
            CROSS JOIN LATERAL (
                SELECT 1 FROM worker_durabletask
                WHERE status = 'pending' AND queue = wanted AND priority = level
                  AND available_at <= statement_timestamp()
                ORDER BY available_at LIMIT 1
            ) AS task
        )
    """,
    claim="""
        WITH due AS (
            SELECT task.id, wanted.room,
                   row_number() OVER (
                       PARTITION BY wanted.queue ORDER BY task.priority, task.available_at, task.id
                   ) AS place
            FROM (SELECT unnest(%(queues)s::text[]) AS queue, unnest(%(rooms)s::int[]) AS room) AS wanted
            CROSS JOIN unnest(%(priorities)s::int[]) AS level
            CROSS JOIN LATERAL (
                SELECT id, priority, available_at FROM worker_durabletask
                WHERE status = 'pending' AND queue = wanted.queue AND priority = level
                  AND available_at <= statement_timestamp()
                ORDER BY available_at, id LIMIT wanted.room FOR UPDATE SKIP LOCKED
            ) AS task
        )
        UPDATE worker_durabletask
        SET status = 'published', published_at = statement_timestamp(),
            lease_until = statement_timestamp() + %(lease)s * interval '1 second'
        WHERE id = ANY(ARRAY(SELECT id FROM due WHERE place <= room ORDER BY place LIMIT %(limit)s))
        RETURNING id, name, queue, lapses
    """,
    complete="""
        UPDATE worker_durabletask
        SET status = 'succeeded', attempts = attempts + %(counted)s, completed_at = clock_timestamp(),
            lease_until = NULL
        WHERE id = ANY(ARRAY(
            SELECT id FROM worker_durabletask
            WHERE id = ANY(%(ids)s) AND status = 'published' AND lapses <= %(most_lapses)s
            ORDER BY id FOR UPDATE SKIP LOCKED
        ))
        RETURNING id, name, args, kwargs, attempts, attempt_limit, subject, request_id
    """,
    # One round trip for both. The lag is counted from when the task was due; after a retry, from when it was
    # enqueued. Ordered, so that two processes of one slot never wait for each other.
    results=f"""
        WITH done AS MATERIALIZED (
            SELECT task.id, task.name, task.queue, task.created_at, task.published_at, outcome.state, outcome.result,
                   outcome.traceback, {_OUTCOME.format("outcome.state")} AS outcome,
                   CASE WHEN outcome.state = 'SUCCESS' THEN greatest(0, extract(epoch FROM clock_timestamp()
                       - CASE WHEN task.attempts <= 1 THEN task.available_at ELSE task.created_at END)) END AS lag
            FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(results)s::text[], %(tracebacks)s::text[])
                 AS outcome(id, state, result, traceback)
            JOIN worker_durabletask AS task ON task.id = outcome.id
        ), counted AS (
            {_TALLY}
            SELECT queue, name, outcome, CASE WHEN lag IS NULL THEN 0
                       ELSE width_bucket(lag, ARRAY[{", ".join(map(str, LAG_BOUNDS))}]::numeric[]) END,
                   %(slot)s, count(*), 0, coalesce(sum(lag), 0)
            FROM done GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
            {_ADD_UP}
        )
        INSERT INTO django_celery_results_taskresult
            (task_id, task_name, periodic_task_name, task_args, task_kwargs, status, worker, content_type,
             content_encoding, result, date_created, date_started, date_done, traceback, meta)
        SELECT id::text, name, NULL, NULL, NULL, state, %(worker)s, 'application/json', 'utf-8',
               result, created_at, published_at, clock_timestamp(), traceback, %(meta)s
        FROM done
        ON CONFLICT (task_id) DO UPDATE SET status = excluded.status, worker = excluded.worker,
            result = excluded.result, date_done = excluded.date_done, traceback = excluded.traceback,
            meta = excluded.meta
    """,
    outcomes=None,
    tally=_TALLY_ONE,
    replay="""
        UPDATE worker_durabletask AS task
        SET status = 'pending', completed_at = NULL, lapses = 0, attempt_limit = attempts + %(attempts)s,
            available_at = statement_timestamp() + (replayed.place - 1) * %(pause)s * interval '1 second'
        FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS replayed(id, place)
        WHERE task.id = replayed.id
    """,
)

_SQLITE_NOW = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"
_SQLITE_LATER = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', {} || ' seconds')"

SQLITE = Statements(
    enqueue=f"""
        INSERT INTO worker_durabletask ({COLUMNS}) VALUES {{rows}}
        ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
    """,
    enqueue_row=f"(%s, %s, %s, %s, %s, %s, %s, %s, %s, coalesce(%s, {_SQLITE_LATER.format('%s')}))",
    due=f"""
        SELECT EXISTS (
            SELECT 1 FROM worker_durabletask
            WHERE status = 'pending' AND queue IN (SELECT value FROM json_each(%(queues)s))
              AND available_at <= {_SQLITE_NOW}
        )
    """,
    # One writer at a time: nothing to skip. One queue a call.
    claim=f"""
        UPDATE worker_durabletask
        SET status = 'published', published_at = {_SQLITE_NOW}, lease_until = {_SQLITE_LATER.format("%(lease)s")}
        WHERE id IN (
            SELECT id FROM worker_durabletask
            WHERE status = 'pending' AND queue = %(queue)s AND available_at <= {_SQLITE_NOW}
            ORDER BY priority, available_at, id LIMIT %(room)s
        )
        RETURNING id, name, queue, lapses
    """,
    complete=f"""
        UPDATE worker_durabletask
        SET status = 'succeeded', attempts = attempts + %(counted)s, completed_at = {_SQLITE_NOW},
            lease_until = NULL
        WHERE id IN (SELECT value FROM json_each(%(ids)s)) AND status = 'published' AND lapses <= %(most_lapses)s
        RETURNING id, name, args, kwargs, attempts, attempt_limit, subject, request_id
    """,
    results=f"""
        INSERT INTO django_celery_results_taskresult
            (task_id, task_name, periodic_task_name, task_args, task_kwargs, status, worker, content_type,
             content_encoding, result, date_created, date_started, date_done, traceback, meta)
        SELECT outcome.value ->> 'task_id', task.name, NULL, NULL, NULL, outcome.value ->> 'state', %(worker)s,
               'application/json', 'utf-8', outcome.value ->> 'result', task.created_at, task.published_at,
               {_SQLITE_NOW}, outcome.value ->> 'traceback', %(meta)s
        FROM json_each(%(outcomes)s) AS outcome
        JOIN worker_durabletask AS task ON task.id = outcome.value ->> 'id'
        WHERE true
        ON CONFLICT (task_id) DO UPDATE SET status = excluded.status, worker = excluded.worker,
            result = excluded.result, date_done = excluded.date_done, traceback = excluded.traceback,
            meta = excluded.meta
    """,
    outcomes=f"""
        {_TALLY}
        SELECT queue, name, outcome,
               CASE WHEN lag IS NULL THEN 0 ELSE {" + ".join(f"(lag >= {bound})" for bound in LAG_BOUNDS)} END,
               %(slot)s, count(*), 0, coalesce(sum(lag), 0)
        FROM (
            SELECT task.queue, task.name, {_OUTCOME.format("outcome.value ->> 'state'")} AS outcome,
                   CASE WHEN outcome.value ->> 'state' = 'SUCCESS' THEN max(0, 86400 * (julianday('now') - julianday(
                       CASE WHEN task.attempts <= 1 THEN task.available_at ELSE task.created_at END))) END AS lag
            FROM json_each(%(outcomes)s) AS outcome
            JOIN worker_durabletask AS task ON task.id = outcome.value ->> 'id'
        ) AS done
        WHERE true GROUP BY 1, 2, 3, 4
        {_ADD_UP}
    """,
    tally=_TALLY_ONE,
    replay=f"""
        UPDATE worker_durabletask
        SET status = 'pending', completed_at = NULL, lapses = 0, attempt_limit = attempts + %(attempts)s,
            available_at = {_SQLITE_LATER.format("(replayed.key * %(pause)s)")}
        FROM json_each(%(ids)s) AS replayed
        WHERE worker_durabletask.id = replayed.value
    """,
)


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
