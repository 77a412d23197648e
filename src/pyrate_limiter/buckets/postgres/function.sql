-- Decides a batch as algorithms/decide.py does: all asks of the first key, then all of the next.
-- Returns the clock, whether the deadline had passed, how far the clock was set back; then for each ask
-- wait, at, remaining, reset, rate.
CREATE FUNCTION {function}(
    p_keys bytea[], p_counts integer[],
    p_costs bigint[], p_patiences bigint[], p_ats bigint[],
    p_numbers bigint[], p_now bigint, p_deadline bigint
) RETURNS bigint[] LANGUAGE plpgsql VOLATILE AS $function$
DECLARE
    v_row {table};
    v_rows {table}[];
    v_changes {table}[];
    v_found integer := 0;
    v_rates integer := cardinality(p_numbers) / {numbers};
    v_clock bigint;
    v_step bigint;  -- the moment of the batch
    v_now bigint;  -- that of an ask: never before the last stamp of its key
    v_changed boolean;
    v_closed boolean;
    v_ask integer := 0;
    v_cost bigint;
    v_at bigint;
    s bigint[];  -- the state of the key; o: where that of one rate begins; x: where its numbers begin
    o integer;
    x integer;
    v_last bigint;
    v_wait bigint;
    v_tightest integer;
    v_left bigint;
    v_reset bigint;
    v_expires bigint;
    r_wait bigint;
    r_left bigint;
    r_reset bigint;
    v_answers bigint[] := array_fill(0::bigint, ARRAY[3 + 5 * cardinality(p_costs)]);
    v_answer integer := 3;
    v_fresh bigint[];
    {declare}
BEGIN
    -- Who waits for a row is overtaken by those who come later and see a newer version of it, and nothing can be
    -- cleaned up that was replaced since it came. So calls for the same keys stand in line before they look at rows.
    PERFORM pg_advisory_xact_lock(hashtextextended(encode(p_keys[1], 'hex'), 0));
    -- Always in the order of the keys: two batches that lock in two orders wait for each other.
    INSERT INTO {table} (key, expires, state)
    SELECT k, 0, '{}' FROM unnest(p_keys) AS k
    WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE t.key = k)
    ORDER BY k ON CONFLICT DO NOTHING;
    FOR v_row IN SELECT t.* FROM {table} AS t WHERE t.key = ANY (p_keys) ORDER BY t.key FOR UPDATE LOOP
        v_found := v_found + 1;
        v_rows[v_found] := v_row;
    END LOOP;
    IF v_found < cardinality(p_keys) THEN
        RAISE serialization_failure USING MESSAGE = 'a row was swept before it could be locked';
    END IF;
    -- Only now: who reads the clock and then waits for a row stamps earlier than those who had it meanwhile.
    v_clock := extract(epoch FROM clock_timestamp()) * 1000000;
    v_answers[1] := v_clock;
    IF v_clock > p_deadline THEN
        v_answers[2] := 1;
        RETURN v_answers;
    END IF;
    v_step := coalesce(p_now, v_clock);
    FOR v_rate IN 0..v_rates - 1 LOOP
        x := v_rate * {numbers};
        v_fresh := v_fresh || {fresh};
    END LOOP;

    FOR v_key IN 1..v_found LOOP
        v_row := v_rows[v_key];
        s := v_row.state;
        IF s = '{}' THEN
            s := v_fresh;
        END IF;
        v_changed := false;
        v_closed := false;
        FOR v_of_key IN 1..p_counts[v_key] LOOP
            v_ask := v_ask + 1;
            v_cost := p_costs[v_ask];
            v_now := v_step;
            IF v_closed AND v_cost > 0 THEN
                v_answers[v_answer + 1] := -1;
                v_answers[v_answer + 2] := v_now;
                v_answer := v_answer + 5;
                CONTINUE;
            END IF;
            IF v_cost = {reset} THEN
                s := v_fresh;
                v_changed := true;
            END IF;

            FOR v_rate IN 0..v_rates - 1 LOOP
                x := v_rate * {numbers};
                o := p_numbers[x + {numbers}];
                v_last := {last};
                IF v_last > v_now THEN
                    v_now := v_last;
                END IF;
            END LOOP;
            IF v_now - v_step >= 1000000 THEN
                v_answers[3] := greatest(v_answers[3], v_now - v_step);
                v_now := v_step;
                v_changed := true;
                FOR v_rate IN 0..v_rates - 1 LOOP
                    x := v_rate * {numbers};
                    o := p_numbers[x + {numbers}];
                    {rebase}
                END LOOP;
            END IF;

            v_wait := 0;
            v_tightest := 0;
            IF v_cost >= 0 THEN
                IF v_cost = 0 THEN
                    v_cost := 1;  -- a look
                END IF;
                FOR v_rate IN 0..v_rates - 1 LOOP
                    x := v_rate * {numbers};
                    o := p_numbers[x + {numbers}];
                    {probe}
                    IF r_wait > v_wait THEN
                        v_wait := r_wait;
                        v_tightest := v_rate;
                    END IF;
                END LOOP;
                v_cost := p_costs[v_ask];
                IF v_cost > 0 THEN
                    IF v_wait = 0 THEN
                        v_changed := true;
                        FOR v_rate IN 0..v_rates - 1 LOOP
                            x := v_rate * {numbers};
                            o := p_numbers[x + {numbers}];
                            {commit}
                        END LOOP;
                    ELSIF v_wait <= p_patiences[v_ask] THEN
                        v_closed := true;
                    END IF;
                END IF;
            ELSIF v_cost <> {reset} THEN
                v_changed := true;
                v_at := p_ats[v_ask];
                FOR v_rate IN 0..v_rates - 1 LOOP
                    x := v_rate * {numbers};
                    o := p_numbers[x + {numbers}];
                    v_cost := -p_costs[v_ask];
                    {give_back}
                END LOOP;
            END IF;

            v_left := NULL;
            v_reset := 0;
            FOR v_rate IN 0..v_rates - 1 LOOP
                x := v_rate * {numbers};
                o := p_numbers[x + {numbers}];
                {view}
                IF v_wait > 0 THEN
                    IF v_rate = v_tightest THEN
                        v_left := r_left;
                    END IF;
                ELSIF v_left IS NULL OR r_left < v_left THEN
                    v_left := r_left;
                    v_tightest := v_rate;
                END IF;
                IF r_reset > v_reset THEN
                    v_reset := r_reset;
                END IF;
            END LOOP;
            v_answers[v_answer + 1] := v_wait;
            v_answers[v_answer + 2] := v_now;
            v_answers[v_answer + 3] := v_left;
            v_answers[v_answer + 4] := v_reset;
            v_answers[v_answer + 5] := v_tightest;
            v_answer := v_answer + 5;
        END LOOP;

        IF v_changed THEN
            v_expires := 0;
            FOR v_rate IN 0..v_rates - 1 LOOP
                x := v_rate * {numbers};
                o := p_numbers[x + {numbers}];
                v_expires := greatest(v_expires, {idle_at});
            END LOOP;
            v_row.state := s;
            v_row.expires := v_expires;
            v_changes := v_changes || v_row;
        END IF;
    END LOOP;

    UPDATE {table} AS t SET expires = c.expires, state = c.state FROM unnest(v_changes) AS c WHERE t.key = c.key;
    RETURN v_answers;
END
$function$;
