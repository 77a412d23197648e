-- GCRA and its names (algorithms/gcra.py). State: the arrival time as whole microseconds and a rest in 1/q, the last
-- stamp. Numbers: capacity, p, q, capacity * p, whether it is paced. `ahead` is the debt times q, so nothing is rounded.

-- numbers
6
-- fresh
ARRAY[0, 0, 0]::bigint[]
-- declare
v_ahead bigint;
v_back bigint;
-- last
s[o + 3]
-- rebase
IF (s[o + 1], s[o + 2]) > (v_now + p_numbers[x + 4] / p_numbers[x + 3], p_numbers[x + 4] % p_numbers[x + 3]) THEN
    s[o + 1] := v_now + p_numbers[x + 4] / p_numbers[x + 3];
    s[o + 2] := p_numbers[x + 4] % p_numbers[x + 3];
END IF;
s[o + 3] := least(s[o + 3], v_now);
-- probe
v_ahead := CASE WHEN s[o + 1] < v_now THEN 0 ELSE (s[o + 1] - v_now) * p_numbers[x + 3] + s[o + 2] END;
IF p_numbers[x + 5] = 0 THEN
    v_ahead := v_ahead + v_cost * p_numbers[x + 2] - p_numbers[x + 4];
END IF;
r_wait := CASE WHEN v_ahead <= 0 THEN 0 ELSE (v_ahead + p_numbers[x + 3] - 1) / p_numbers[x + 3] END;
-- commit
v_ahead := CASE WHEN s[o + 1] < v_now THEN 0 ELSE (s[o + 1] - v_now) * p_numbers[x + 3] + s[o + 2] END
    + v_cost * p_numbers[x + 2];
s[o + 1] := v_now + v_ahead / p_numbers[x + 3];
s[o + 2] := v_ahead % p_numbers[x + 3];
s[o + 3] := v_now;
-- give_back
v_back := least(v_cost, p_numbers[x + 1]) * p_numbers[x + 2];
IF v_at <= s[o + 3] AND s[o + 3] - v_at <= v_back / p_numbers[x + 3] THEN
    v_back := v_back - (s[o + 3] - v_at) * p_numbers[x + 3];
    s[o + 1] := s[o + 1] - v_back / p_numbers[x + 3];
    s[o + 2] := s[o + 2] - v_back % p_numbers[x + 3];
    IF s[o + 2] < 0 THEN
        s[o + 1] := s[o + 1] - 1;
        s[o + 2] := s[o + 2] + p_numbers[x + 3];
    END IF;
    IF s[o + 1] < 0 THEN
        s[o + 1] := 0;
        s[o + 2] := 0;
    END IF;
END IF;
-- view
v_ahead := CASE WHEN s[o + 1] < v_now THEN 0 ELSE (s[o + 1] - v_now) * p_numbers[x + 3] + s[o + 2] END;
r_reset := (v_ahead + p_numbers[x + 3] - 1) / p_numbers[x + 3];
r_left := CASE
    WHEN v_ahead = 0 THEN p_numbers[x + 1]
    WHEN p_numbers[x + 5] = 0 THEN (p_numbers[x + 4] - v_ahead) / p_numbers[x + 2]
    ELSE 0
END;
-- idle_at
s[o + 1] + (s[o + 2] > 0)::integer
