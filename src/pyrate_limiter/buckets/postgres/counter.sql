-- The sliding counter (algorithms/windows.py). State: the window's number, what the one before it counted, what it
-- counts. Numbers: limit, interval. `older` and `count` are those of the window that v_now lies in.

-- numbers
3
-- fresh
ARRAY[-1, 0, 0]::bigint[]
-- declare
v_window bigint;
v_older bigint;
v_count bigint;
v_within bigint;
-- last
s[o + 1] * p_numbers[x + 2]
-- rebase
v_window := v_now / p_numbers[x + 2];
IF s[o + 1] > v_window THEN
    IF s[o + 3] = 0 THEN
        s[o + 3] := s[o + 2];
        s[o + 2] := 0;
    ELSIF s[o + 1] - 1 <> v_window THEN
        s[o + 2] := 0;
    END IF;
    s[o + 1] := v_window;
END IF;
-- roll
v_window := v_now / p_numbers[x + 2];
v_older := CASE s[o + 1] WHEN v_window THEN s[o + 2] WHEN v_window - 1 THEN s[o + 3] ELSE 0 END;
v_count := CASE s[o + 1] WHEN v_window THEN s[o + 3] ELSE 0 END;
-- probe
{roll}
v_within := p_numbers[x + 2];
IF v_count + v_cost <= p_numbers[x + 1] THEN
    v_within := CASE WHEN v_older = 0 THEN 0 ELSE greatest(0,
        p_numbers[x + 2] - (p_numbers[x + 1] - v_count - v_cost) * p_numbers[x + 2] / v_older) END;
END IF;
IF v_within = p_numbers[x + 2] AND v_count > 0 THEN
    v_within := v_within + greatest(0,
        p_numbers[x + 2] - (p_numbers[x + 1] - v_cost) * p_numbers[x + 2] / v_count);
END IF;
r_wait := greatest(0, v_window * p_numbers[x + 2] + v_within - v_now);
-- commit
{roll}
s[o + 1] := v_window;
s[o + 2] := v_older;
s[o + 3] := v_count + v_cost;
-- give_back
IF v_at >= 0 THEN
    v_window := v_at / p_numbers[x + 2];
    IF v_window = s[o + 1] THEN
        s[o + 3] := greatest(s[o + 3] - v_cost, 0);
    ELSIF v_window = s[o + 1] - 1 THEN
        s[o + 2] := greatest(s[o + 2] - v_cost, 0);
    END IF;
END IF;
-- view
{roll}
r_left := greatest(0, p_numbers[x + 1] * p_numbers[x + 2]
    - v_older * ((v_window + 1) * p_numbers[x + 2] - v_now) - v_count * p_numbers[x + 2]) / p_numbers[x + 2];
r_reset := greatest(0, {idle_at} - v_now);
-- idle_at
CASE
    WHEN s[o + 3] > 0 THEN (s[o + 1] + 2) * p_numbers[x + 2]
    WHEN s[o + 2] > 0 THEN (s[o + 1] + 1) * p_numbers[x + 2]
    ELSE 0
END
