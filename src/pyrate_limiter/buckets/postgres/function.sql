-- Decides a batch: all asks of the first key, then all of the next. See there.py.
CREATE FUNCTION {function}(
    the_keys bytea[], the_counts integer[],
    the_costs bigint[], the_patiences bigint[], the_ats bigint[],
    the_numbers bigint[], the_now bigint, the_deadline bigint
) RETURNS bigint[] LANGUAGE plpgsql VOLATILE AS $function$
DECLARE
    a_row {table};
    all_rows {table}[];
    new_rows {table}[];
    n_rows integer := 0;
    n_new integer := 0;
    i_key integer;
    i_ask integer := 0;
    n_rates integer := cardinality(the_numbers) / {numbers};
    i_rate integer;
    clock bigint;
    now bigint;
    step bigint;
    s bigint[];  -- the state of the key: {width} for each rate
    o integer;  -- where that of a rate begins
    x integer;  -- where the numbers of a rate begin
    last bigint;
    cost bigint;
    given_at bigint;
    closed boolean;
    changed boolean;
    wait bigint;
    a_wait bigint;
    left_over bigint;
    a_left bigint;
    reset bigint;
    a_reset bigint;
    tightest integer;
    expires bigint;
    answers bigint[] := array_fill(0::bigint, ARRAY[3 + 5 * cardinality(the_costs)]);
    i_answer integer := 4;
    {declare}
BEGIN
    INSERT INTO {table} (key, expires, state)
    SELECT k, 0, '{}' FROM unnest(the_keys) AS k
    WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE t.key = k)
    ORDER BY k ON CONFLICT DO NOTHING;
    FOR a_row IN SELECT t.* FROM {table} AS t WHERE t.key = ANY (the_keys) ORDER BY t.key FOR UPDATE LOOP
        n_rows := n_rows + 1;
        all_rows[n_rows] := a_row;
    END LOOP;
    IF n_rows < cardinality(the_keys) THEN
        RAISE serialization_failure USING MESSAGE = 'a row was swept before it could be locked';
    END IF;
    -- Only now: who read the clock before waiting for a row would stamp earlier than those who had it meanwhile.
    clock := extract(epoch FROM clock_timestamp()) * 1000000;
    answers[1] := clock;
    IF clock > the_deadline THEN
        answers[2] := 1;
        RETURN answers;
    END IF;
    step := coalesce(the_now, clock);

    FOR i_key IN 1..n_rows LOOP
        s := all_rows[i_key].state;
    END LOOP;
    RETURN answers;
END
$function$
