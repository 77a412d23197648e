-- A page keeps room for ten versions of each row and more: an old one stays while any call that began before it was
-- replaced still waits. Rows that find room in their own page (HOT) need no vacuum. States are never moved out of line.
CREATE TABLE {table} (
    key bytea PRIMARY KEY,
    expires bigint NOT NULL,
    state bigint[] NOT NULL
) WITH (fillfactor = 10, toast_tuple_target = 8160);

CREATE TABLE {pages} (
    key bytea,
    rate integer,
    slot integer,
    page bigint NOT NULL,
    before bigint NOT NULL,
    last_at bigint NOT NULL,
    last_count bigint NOT NULL,
    runs bigint[] NOT NULL,
    PRIMARY KEY (key, rate, slot)
) WITH (fillfactor = 50, toast_tuple_target = 8160);
