-- The fixed window (algorithms/windows.py). State: the window's number, what it counts. Numbers: limit, interval.

-- numbers
3
-- fresh
ARRAY[-1, 0]::bigint[]
-- declare
v_window bigint;
-- last
s[o + 1] * p_numbers[x + 2]
-- rebase
s[o + 1] := least(s[o + 1], v_now / p_numbers[x + 2]);
-- probe
r_wait := CASE
    WHEN s[o + 1] = v_now / p_numbers[x + 2] AND s[o + 2] + v_cost > p_numbers[x + 1]
    THEN p_numbers[x + 2] - v_now % p_numbers[x + 2] ELSE 0
END;
-- commit
v_window := v_now / p_numbers[x + 2];
s[o + 2] := CASE WHEN s[o + 1] = v_window THEN s[o + 2] ELSE 0 END + v_cost;
s[o + 1] := v_window;
-- give_back
IF v_at >= 0 AND v_at / p_numbers[x + 2] = s[o + 1] THEN
    s[o + 2] := greatest(s[o + 2] - v_cost, 0);
END IF;
-- view
IF s[o + 1] <> v_now / p_numbers[x + 2] OR s[o + 2] = 0 THEN
    r_left := p_numbers[x + 1];
    r_reset := 0;
ELSE
    r_left := p_numbers[x + 1] - s[o + 2];
    r_reset := p_numbers[x + 2] - v_now % p_numbers[x + 2];
END IF;
-- idle_at
CASE WHEN s[o + 2] > 0 THEN (s[o + 1] + 1) * p_numbers[x + 2] ELSE 0 END
