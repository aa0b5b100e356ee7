"""What relays, workers and web processes of the release said to PostgreSQL."""

ENQUEUE = """
    WITH enqueued AS (
        INSERT INTO worker_durabletask (id, name, queue, priority, args, kwargs, subject, request_id,
                                        unique_key, available_at)
        VALUES (%s::uuid, %s, %s, %s, %s::jsonb, %s::jsonb, %s, %s, %s,
                coalesce(%s::timestamptz, statement_timestamp() + %s * interval '1 second'))
        ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
    )
    SELECT CASE WHEN NOT pg_try_advisory_xact_lock_shared(4915002) THEN pg_notify('shopwire_ledger', '') END
"""
CLAIM = """
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
"""
COMPLETE = """
    UPDATE worker_durabletask
    SET status = 'succeeded', attempts = attempts + %(counted)s, completed_at = clock_timestamp(),
        lease_until = NULL
    WHERE id = ANY(ARRAY(
        SELECT id FROM worker_durabletask
        WHERE id = ANY(%(ids)s) AND status = 'published' AND lapses <= %(most_lapses)s
        ORDER BY id FOR UPDATE SKIP LOCKED
    ))
    RETURNING id, name, args, kwargs, attempts, attempt_limit, subject, request_id
"""
FAIL = """
    UPDATE worker_durabletask
    SET attempts = %(attempts)s, lease_until = NULL, last_error = %(error)s, status = %(status)s,
        available_at = statement_timestamp() + interval '1 second'
    WHERE id = %(id)s AND status IN ('published', 'running') AND attempts = %(before)s
"""
FAILED_ATTEMPT = """
    INSERT INTO worker_failedattempt (task_id, number, worker, error, traceback)
    VALUES (%(id)s, %(attempts)s, 'worker-1@old', %(error)s, '') RETURNING id
"""
TALLY = """
    INSERT INTO worker_tally AS tally (queue, name, outcome, bucket, slot, rows, messages, seconds)
    VALUES ('default', %(name)s, %(outcome)s, %(bucket)s, %(slot)s, %(rows)s, 0, 0)
    ON CONFLICT (queue, name, outcome, bucket, slot) DO UPDATE SET rows = tally.rows + excluded.rows,
        messages = tally.messages + excluded.messages, seconds = tally.seconds + excluded.seconds
"""
LAPSE = """
    UPDATE worker_durabletask SET status = 'pending', lease_until = NULL, lapses = LEAST(lapses + 1, 1000)
    WHERE id IN (
        SELECT id FROM worker_durabletask
        WHERE lease_until < statement_timestamp() AND status IN ('published', 'running')
        ORDER BY lease_until LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
"""
HEARTBEAT = """
    INSERT INTO worker_heartbeat (process, kind, state, queues, active, received, started_at, beaten_at, received_at)
    VALUES ('worker-1@old', 'worker', 'ok', '[]', 1, 2, statement_timestamp(), statement_timestamp(),
            statement_timestamp())
    ON CONFLICT (process) DO UPDATE SET beaten_at = excluded.beaten_at, active = excluded.active
"""
SAMPLE = """
    INSERT INTO worker_queuesample (at, queue, pending, published, running, dead, oldest_pending_seconds, messages,
                                    succeeded, failed, lag)
    VALUES (date_trunc('minute', statement_timestamp()) + interval '1 year', 'default', 1, 2, 3, 4, NULL, NULL, 5, 6, 7)
    ON CONFLICT DO NOTHING
"""
