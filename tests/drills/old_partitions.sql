-- What partitions, and moving rows out, would cost: `psql -f` on an empty database with the ledger's tables (docs/adr/0029).
\set ON_ERROR_STOP on
\pset format unaligned
\timing off
DROP TABLE IF EXISTS parted, plain, archive;
CREATE TABLE plain (LIKE celery_ledger_durabletask INCLUDING DEFAULTS INCLUDING INDEXES);
CREATE TABLE archive (LIKE celery_ledger_durabletask INCLUDING DEFAULTS);
CREATE TABLE parted (LIKE celery_ledger_durabletask INCLUDING DEFAULTS) PARTITION BY RANGE (id);
ALTER TABLE parted ADD PRIMARY KEY (id);
CREATE INDEX ON parted (queue, priority, available_at, id) WHERE status = 'pending';
CREATE INDEX ON parted (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX ON parted (subject) WHERE subject IS NOT NULL;
CREATE INDEX ON parted (canvas) WHERE canvas IS NOT NULL;
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
SELECT format('CREATE TABLE parted_%s PARTITION OF parted FOR VALUES FROM (%L) TO (%L)', day,
              (to_hex(day) || '0000000-0000-0000-0000-000000000000')::uuid,
              (to_hex(day + 1) || '0000000-0000-0000-0000-000000000000')::uuid) FROM generate_series(1, 8) AS day \gexec
INSERT INTO plain (id, name, queue, status, args, kwargs, subject, canvas)
SELECT (to_hex(1 + i % 8) || substr(md5(i::text), 2))::uuid, 'drills.nothing', 'default',
       CASE WHEN i % 200 = 0 THEN 'pending' ELSE 'succeeded' END, '[]', '{}', 'store.order:' || i / 5, md5((i / 5)::text)::uuid
FROM generate_series(1, 200000) AS i;
INSERT INTO parted SELECT * FROM plain;
VACUUM ANALYZE plain, parted;

\echo 'unique keys, which no partitioned table keeps:'
\set ON_ERROR_STOP off
CREATE UNIQUE INDEX ON parted (unique_key) WHERE unique_key IS NOT NULL;
\set ON_ERROR_STOP on

-- Each table's claim of 20 rows, 200 times, in microseconds; the last part of the plan is the same for both.
CREATE OR REPLACE FUNCTION microseconds(statement text, times int) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE began timestamptz := clock_timestamp();
BEGIN
    FOR i IN 1..times LOOP EXECUTE statement; END LOOP;
    RETURN round(extract(epoch FROM clock_timestamp() - began) * 1e6 / times);
END $$;
SELECT kept, round AS turn, microseconds(format(
    'SELECT count(*) FROM generate_series(0, 9) AS level CROSS JOIN LATERAL (SELECT id FROM %I WHERE status = ''pending''
     AND queue = ''default'' AND priority = level AND available_at <= statement_timestamp() ORDER BY available_at, id
     LIMIT 20 FOR UPDATE SKIP LOCKED) AS task', kept), 200) AS claim,
    microseconds(format('SELECT id FROM %I WHERE subject = ''store.order:77''', kept), 200) AS by_subject
FROM generate_series(1, 3) AS round, (VALUES ('plain'), ('parted')) AS tables(kept);

\echo 'milliseconds: deleting 20,000 rows; moving 20,000 rows; dropping the partition of 25,000'
SELECT microseconds('DELETE FROM plain WHERE id IN (SELECT id FROM plain WHERE id < ''20000000-0000-0000-0000-000000000000'' LIMIT 20000)', 1) / 1000 AS deleted;
SELECT microseconds('WITH gone AS (DELETE FROM plain WHERE id IN (SELECT id FROM plain WHERE id >= ''20000000-0000-0000-0000-000000000000'' LIMIT 20000) RETURNING *) INSERT INTO archive SELECT * FROM gone', 1) / 1000 AS moved;
SELECT microseconds('DROP TABLE parted_1', 1) / 1000 AS dropped;
DROP TABLE parted, plain, archive;
DROP FUNCTION microseconds;
