The statements of here.py, there.py and sweep.py. %s are their parameters; {table} and {pages} are filled in.

-- queue
SELECT pg_advisory_xact_lock(hashtextextended(encode(%s, 'hex'), 0))

-- insert
INSERT INTO {table} (key, expires, state)
SELECT key, 0, '{}' FROM unnest(%s::bytea[]) AS asked (key)
WHERE NOT EXISTS (SELECT FROM {table} AS row WHERE row.key = asked.key)
ORDER BY key ON CONFLICT DO NOTHING

-- lock
SELECT key, state FROM {table} WHERE key = ANY (%s::bytea[]) ORDER BY key FOR UPDATE

-- read_pages
SELECT key, rate, page, before, runs FROM {pages} WHERE key = ANY (%s::bytea[])

-- clock
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint

-- in_time
SELECT 1 / ((extract(epoch FROM clock_timestamp()) * 1000000)::bigint < %s)::integer

-- update
UPDATE {table} AS row SET expires = new.expires, state = new.state::bigint[]
FROM unnest(%s::bytea[], %s::bigint[], %s::text[]) AS new (key, expires, state)
WHERE row.key = new.key

-- write_pages
INSERT INTO {pages} (key, rate, slot, page, before, last_at, last_count, runs)
SELECT key, rate, slot, page, before, runs[cardinality(runs) - 1], runs[cardinality(runs)], runs
FROM (
    SELECT key, rate, slot, page, before, text::bigint[]
    FROM unnest(%s::bytea[], %s::integer[], %s::integer[], %s::bigint[], %s::bigint[], %s::text[])
    AS texts (key, rate, slot, page, before, text)
) AS new (key, rate, slot, page, before, runs)
ON CONFLICT (key, rate, slot) DO UPDATE SET page = excluded.page, before = excluded.before,
    last_at = excluded.last_at, last_count = excluded.last_count, runs = excluded.runs

-- call
SELECT {function}(%s::bytea[], %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s, %s)

-- sweep
WITH expired AS (
    SELECT ctid FROM {table}
    WHERE ctid >= %s::tid AND ctid < %s::tid
    AND expires < coalesce(%s, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) - %s
    LIMIT %s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM {table} WHERE ctid = ANY (ARRAY (SELECT ctid FROM expired)) RETURNING key
), pages_gone AS (
    DELETE FROM {pages} AS page USING gone WHERE page.key = gone.key
)
SELECT count(*), pg_relation_size(%s::regclass) / current_setting('block_size')::bigint FROM gone
