-- The log (algorithms/sliding_log.py). State, for each rate: a header, then room for the newest runs, time and
-- cumulative count of each; older runs lie in pages. Header:
--   1 base: the cumulative count before the first live run
--   2 head: the index of that run in the oldest page, or in the row if there is no page
--   3, 4: the number of the oldest page, and of the next one to be written
--   5, 6: the time and the count of the first live run
--   7: the count before the first run in the row
--   8, 9: which time the last run had before the last join, and how many units joined it
--   10: how many runs the row has
-- Numbers: limit, interval, cell, room of the row in runs, runs of a page, slots for pages, offset in the state.

-- numbers
7
-- fresh
ARRAY[0, 0, 0, 0, -4611686018427387904, 0, 0, 0, 0, 1, -4611686018427387904]
    || array_fill(0::bigint, ARRAY[2 * p_numbers[x + 4]::integer - 1])
-- declare
v_total bigint;
v_moment bigint;
v_horizon bigint;
v_need bigint;
v_counted bigint;  -- the cumulative count before what was found
v_page bigint;  -- where it was found: in this page, or -1: in the row
v_low integer;
v_high integer;
v_middle integer;
v_runs bigint[];
v_before bigint;
v_n integer;
v_size integer;
v_all bigint[];
-- last_at
s[o + 9 + 2 * s[o + 10]]
-- last_count
s[o + 10 + 2 * s[o + 10]]
-- last
{last_at}
-- find_live
-- Finds the first run later than v_horizon, which is not before the first live run's time but before the last one's.
v_page := -1;
IF s[o + 3] < s[o + 4] AND s[o + 11] > v_horizon THEN
    SELECT p.page, p.runs, p.before INTO v_page, v_runs, v_counted FROM {pages} AS p
    WHERE p.key = v_row.key AND p.rate = v_rate AND p.page >= s[o + 3] AND p.page < s[o + 4] AND p.last_at > v_horizon
    ORDER BY p.page LIMIT 1;
    v_page := coalesce(v_page, -1);
END IF;
IF v_page >= 0 THEN
    v_low := 0;
    v_high := cardinality(v_runs) / 2 - 1;
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high) / 2;
        IF v_runs[2 * v_middle + 1] > v_horizon THEN v_high := v_middle; ELSE v_low := v_middle + 1; END IF;
    END LOOP;
    IF v_low > 0 THEN
        v_counted := v_runs[2 * v_low];
    END IF;
ELSE
    v_low := 0;
    v_high := s[o + 10] - 1;
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high) / 2;
        IF s[o + 11 + 2 * v_middle] > v_horizon THEN v_high := v_middle; ELSE v_low := v_middle + 1; END IF;
    END LOOP;
    v_counted := CASE WHEN v_low > 0 THEN s[o + 10 + 2 * v_low] ELSE s[o + 7] END;
END IF;
-- expire
-- Lets go of the runs up to v_horizon; the last one stays, for its time, and counts no more.
IF s[o + 5] <= v_horizon THEN
    IF {last_at} <= v_horizon THEN
        s[o + 1] := {last_count};
        s[o + 2] := s[o + 10] - 1;
        s[o + 3] := s[o + 4];
        s[o + 5] := {last_at};
        s[o + 6] := {last_count};
    ELSE
        {find_live}
        s[o + 1] := v_counted;
        s[o + 2] := v_low;
        IF v_page >= 0 THEN
            s[o + 3] := v_page;
            s[o + 5] := v_runs[2 * v_low + 1];
            s[o + 6] := v_runs[2 * v_low + 2];
        ELSE
            s[o + 3] := s[o + 4];
            s[o + 5] := s[o + 11 + 2 * v_low];
            s[o + 6] := s[o + 12 + 2 * v_low];
        END IF;
    END IF;
END IF;
-- write_page
-- Writes v_runs as the next page.
INSERT INTO {pages} AS p (key, rate, slot, page, before, last_at, last_count, runs)
VALUES (v_row.key, v_rate, s[o + 4] % p_numbers[x + 6], s[o + 4], s[o + 7], v_runs[cardinality(v_runs) - 1],
    v_runs[cardinality(v_runs)], v_runs)
ON CONFLICT (key, rate, slot) DO UPDATE SET page = excluded.page, before = excluded.before,
    last_at = excluded.last_at, last_count = excluded.last_count, runs = excluded.runs;
s[o + 4] := s[o + 4] + 1;
s[o + 7] := v_runs[cardinality(v_runs)];
-- unfold
-- Puts all live runs into v_runs.
v_runs := s[o + 11:o + 10 + 2 * s[o + 10]];
IF s[o + 3] < s[o + 4] THEN
    SELECT array_agg(u.number ORDER BY p.page, u.place) || v_runs INTO v_runs
    FROM {pages} AS p, unnest(p.runs) WITH ORDINALITY AS u (number, place)
    WHERE p.key = v_row.key AND p.rate = v_rate AND p.page >= s[o + 3] AND p.page < s[o + 4];
END IF;
v_runs := v_runs[2 * s[o + 2] + 1:];
v_n := cardinality(v_runs) / 2;
-- fold
-- Puts them back: all into the row, or the older ones into new pages.
s[o + 2] := 0;
s[o + 3] := s[o + 4];
s[o + 5] := v_runs[1];
s[o + 6] := v_runs[2];
s[o + 7] := s[o + 1];
v_all := v_runs;
v_low := 0;
v_size := p_numbers[x + 5];
WHILE v_n - v_low > p_numbers[x + 4] LOOP
    v_runs := v_all[2 * v_low + 1:2 * (v_low + v_size)];
    {write_page}
    v_low := v_low + v_size;
END LOOP;
s[o + 10] := v_n - v_low;
s[o + 11:o + 10 + 2 * (v_n - v_low)] := v_all[2 * v_low + 1:];
-- rebase
v_horizon := {last_at} - p_numbers[x + 2];
{expire}
IF {last_at} > v_now THEN
    {unfold}
    v_total := {last_count};
    v_low := 0;
    v_high := v_n;
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high) / 2;
        IF v_runs[2 * v_middle + 1] > v_now THEN v_high := v_middle; ELSE v_low := v_middle + 1; END IF;
    END LOOP;
    IF v_low > 0 AND v_runs[2 * v_low - 1] / p_numbers[x + 3] = v_now / p_numbers[x + 3] THEN
        v_low := v_low - 1;
    END IF;
    v_runs := v_runs[1:2 * v_low] || v_now || v_total;
    v_n := v_low + 1;
    s[o + 9] := 0;
    {fold}
END IF;
-- probe
v_need := {last_count} + v_cost - p_numbers[x + 1];
IF v_need <= s[o + 1] THEN
    r_wait := 0;
ELSE
    IF s[o + 6] >= v_need THEN
        v_moment := s[o + 5];
    ELSIF s[o + 3] < s[o + 4] AND v_need <= s[o + 7] THEN
        SELECT p.runs INTO v_runs FROM {pages} AS p
        WHERE p.key = v_row.key AND p.rate = v_rate AND p.page >= s[o + 3] AND p.page < s[o + 4]
            AND p.last_count >= v_need
        ORDER BY p.page LIMIT 1;
        v_low := 0;
        v_high := cardinality(v_runs) / 2 - 1;
        WHILE v_low < v_high LOOP
            v_middle := (v_low + v_high) / 2;
            IF v_runs[2 * v_middle + 2] >= v_need THEN v_high := v_middle; ELSE v_low := v_middle + 1; END IF;
        END LOOP;
        v_moment := v_runs[2 * v_low + 1];
    ELSE
        v_low := CASE WHEN s[o + 3] < s[o + 4] THEN 0 ELSE s[o + 2] END;
        v_high := s[o + 10] - 1;
        WHILE v_low < v_high LOOP
            v_middle := (v_low + v_high) / 2;
            IF s[o + 12 + 2 * v_middle] >= v_need THEN v_high := v_middle; ELSE v_low := v_middle + 1; END IF;
        END LOOP;
        v_moment := s[o + 11 + 2 * v_low];
    END IF;
    r_wait := greatest(0, v_moment + p_numbers[x + 2] - v_now);
END IF;
-- commit
v_total := {last_count} + v_cost;
IF v_total - s[o + 1] > p_numbers[x + 1] OR s[o + 10] >= p_numbers[x + 4] THEN
    v_horizon := v_now - p_numbers[x + 2];
    {expire}
END IF;
IF {last_count} = s[o + 1] THEN  -- nothing is live
    s[o + 2] := 0;
    s[o + 3] := s[o + 4];
    s[o + 5] := v_now;
    s[o + 6] := v_total;
    s[o + 7] := s[o + 1];
    s[o + 10] := 1;
    s[o + 11] := v_now;
    s[o + 12] := v_total;
ELSIF {last_at} / p_numbers[x + 3] = v_now / p_numbers[x + 3] THEN
    s[o + 8] := {last_at};
    s[o + 9] := v_cost;
    IF s[o + 6] = {last_count} THEN  -- the last run is the first live one
        s[o + 5] := v_now;
        s[o + 6] := v_total;
    END IF;
    v_low := s[o + 10];
    s[o + 9 + 2 * v_low] := v_now;
    s[o + 10 + 2 * v_low] := v_total;
ELSE
    v_size := 0;
    IF s[o + 10] >= p_numbers[x + 4] THEN  -- no room
        IF s[o + 3] = s[o + 4] AND s[o + 2] > 0 THEN
            v_size := s[o + 2];
            s[o + 7] := s[o + 1];
            s[o + 2] := 0;
        ELSE
            v_size := p_numbers[x + 5];
            v_runs := s[o + 11:o + 10 + 2 * v_size];
            {write_page}
        END IF;
        v_n := s[o + 10];
        s[o + 11:o + 10 + 2 * (v_n - v_size)] := s[o + 11 + 2 * v_size:o + 10 + 2 * v_n];
        s[o + 10] := v_n - v_size;
    END IF;
    v_low := s[o + 10];
    s[o + 11 + 2 * v_low] := v_now;
    s[o + 12 + 2 * v_low] := v_total;
    s[o + 10] := v_low + 1;
END IF;
-- give_back
v_horizon := {last_at} - p_numbers[x + 2];  -- not by v_now: no stamp says yet that it was reached
{expire}
IF v_at >= 0 AND v_at <= {last_at} AND {last_count} > s[o + 1] THEN
    {unfold}
    v_low := 0;
    v_high := v_n - 1;
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high) / 2;
        IF v_runs[2 * v_middle + 1] >= v_at THEN v_high := v_middle; ELSE v_low := v_middle + 1; END IF;
    END LOOP;
    IF v_runs[2 * v_low + 1] / p_numbers[x + 3] = v_at / p_numbers[x + 3] THEN
        v_before := CASE WHEN v_low > 0 THEN v_runs[2 * v_low] ELSE s[o + 1] END;
        v_cost := least(v_cost, v_runs[2 * v_low + 2] - v_before);
        IF v_at = {last_at} AND v_cost = s[o + 9] AND s[o + 8] / p_numbers[x + 3] = v_at / p_numbers[x + 3] THEN
            v_runs[2 * v_n - 1] := s[o + 8];
        END IF;
        IF v_low = v_n - 1 THEN
            s[o + 9] := 0;
        END IF;
        FOR i IN v_low..v_n - 1 LOOP
            v_runs[2 * i + 2] := v_runs[2 * i + 2] - v_cost;
        END LOOP;
        IF v_runs[2 * v_low + 2] = v_before AND v_n > 1 THEN
            v_runs := v_runs[1:2 * v_low] || v_runs[2 * v_low + 3:];
            v_n := v_n - 1;
        END IF;
        {fold}
    END IF;
END IF;
-- view
v_horizon := v_now - p_numbers[x + 2];
IF s[o + 5] > v_horizon THEN
    v_counted := s[o + 1];
ELSIF {last_at} <= v_horizon THEN
    v_counted := {last_count};
ELSE
    {find_live}
END IF;
IF {last_count} > v_counted THEN
    r_left := p_numbers[x + 1] - {last_count} + v_counted;
    r_reset := {last_at} + p_numbers[x + 2] - v_now;
ELSE
    r_left := p_numbers[x + 1];
    r_reset := 0;
END IF;
-- idle_at
CASE WHEN {last_count} > s[o + 1] THEN {last_at} + p_numbers[x + 2] ELSE 0 END
