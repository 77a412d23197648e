-- The fixed window. A state is the window's number and what it counts.

local STATE, RATE = "<dd", "<dd"
local STATE_SIZE, NUMBERS, RATE_SIZE = 16, 2, 16
local LIMIT, INTERVAL = 1, 2

local function fresh(s)
  s[1], s[2] = -1, 0
end

local function last(s, r)
  return s[1] * r[INTERVAL]
end

local function probe(s, r, now, cost)
  local over = s[1] == floor(now / r[INTERVAL]) and s[2] + cost > r[LIMIT]
  return over and r[INTERVAL] - now % r[INTERVAL] or 0
end

local function commit(s, r, now, cost)
  local window = floor(now / r[INTERVAL])
  s[1], s[2] = window, s[1] == window and s[2] + cost or cost
end

local function give_back(s, r, _, cost, at)
  if floor(at / r[INTERVAL]) == s[1] then
    s[2] = s[2] - min(cost, s[2])
  end
end

local function view(s, r, now)
  if s[1] ~= floor(now / r[INTERVAL]) or s[2] == 0 then
    return r[LIMIT], 0
  end
  return r[LIMIT] - s[2], r[INTERVAL] - now % r[INTERVAL]
end

local function rebase(s, r, now)
  s[1] = min(s[1], floor(now / r[INTERVAL]))
end

local function idle_at(s, r)
  return s[2] > 0 and (s[1] + 1) * r[INTERVAL] or 0
end
