-- The sliding-window log. One string holds, for each rate, a header of nine doubles, and behind all headers, for each
-- rate, a ring of slots (time, cumulative count) for its runs, oldest first. The newest run stands in the header only,
-- its slot is written when the next one comes; the oldest stands there too, to save reading it. So a grant writes the
-- header and at most one slot, whatever the limit, and nothing is read whole but to give back. A grant also lets go of
-- the runs that it finds to be an interval old, so none is ever that much older than the newest.

local STATE, RATE = "<ddddddddd", "<ddddd"
local STATE_SIZE, NUMBERS, RATE_SIZE = 72, 9, 40
local LIMIT, INTERVAL, CELL, SLOTS, RING = 1, 2, 3, 4, 5 -- RING: where its slots begin, behind the headers
-- BASE: the cumulative count before the oldest run. HEAD: its slot. RUNS: how many there are, at least one.
-- EARLIER and JOINED: which time the newest run had before its last join, and how many units joined.
local BASE, HEAD, RUNS, FIRST_T, FIRST_C, LAST_T, LAST_C, EARLIER, JOINED = 1, 2, 3, 4, 5, 6, 7, 8, 9
local NEVER = -4611686018427387904 -- -2^62

local function fresh(s)
  s[BASE], s[HEAD], s[RUNS], s[FIRST_T], s[FIRST_C] = 0, 0, 1, NEVER, 0
  s[LAST_T], s[LAST_C], s[EARLIER], s[JOINED] = NEVER, 0, 0, 0
  s.times, s.counts = nil, nil
end

local function load(name, size)
  return redis.call("GETRANGE", name, 0, size - 1)
end

local function save(name, data, ttl)
  redis.call("SETRANGE", name, 0, data)
  redis.call("PEXPIRE", name, ttl)
end

local function remember(s, slot, t, c)
  if not s.times then
    s.times, s.counts = {}, {} -- by slot: what was read or written in this call
  end
  s.times[slot], s.counts[slot] = t, c
end

local function place(r, slot)
  return STATE_SIZE * N + r[RING] + 16 * slot
end

local function run(s, r, j)
  if j == s[RUNS] - 1 then
    return s[LAST_T], s[LAST_C]
  elseif j == 0 then
    return s[FIRST_T], s[FIRST_C]
  end
  local slot = (s[HEAD] + j) % r[SLOTS]
  if not (s.times and s.times[slot]) then
    local at = place(r, slot)
    remember(s, slot, unpack("<dd", redis.call("GETRANGE", key, at, at + 15)))
  end
  return s.times[slot], s.counts[slot]
end

-- Return the first run whose time (or count) is at least `bound`, or else how many runs there are. It is sought from
-- the oldest on, in steps that double, and then halved: mostly it is among the first.
local function first_run(s, r, bound, by_count)
  local low, high, step = 0, 0, 1
  local found = false
  while low < s[RUNS] and (not found or low < high) do
    local middle = found and floor((low + high) / 2) or min(high, s[RUNS] - 1)
    local t, c = run(s, r, middle)
    if (by_count and c or t) >= bound then
      found, high = true, middle
    else
      low = middle + 1
      if not found then
        high, step = low + step - 1, 2 * step
      end
    end
  end
  return low
end

-- Return the cumulative count of the runs up to a horizon, and the first run behind it, or else the newest.
local function count_at(s, r, horizon)
  if s[FIRST_T] > horizon then
    return s[BASE], 0
  elseif s[LAST_T] <= horizon then
    return s[LAST_C], s[RUNS] - 1
  end
  local live = first_run(s, r, horizon + 1)
  local _, before = run(s, r, live - 1)
  return before, live
end

local function expire(s, r, horizon)
  if s[FIRST_T] > horizon then
    return
  end
  local base, live = count_at(s, r, horizon)
  local t, c = run(s, r, live)
  s[BASE], s[HEAD], s[RUNS] = base, (s[HEAD] + live) % r[SLOTS], s[RUNS] - live
  s[FIRST_T], s[FIRST_C] = t, c
end

-- Keep the oldest run's copy in the header right when it is the newest too.
local function settle(s)
  if s[RUNS] == 1 then
    s[FIRST_T], s[FIRST_C] = s[LAST_T], s[LAST_C]
  end
end

-- Take `units` off the counts of the runs from `from` on, and close the gap of `gap` slots in front of them.
local function shift(s, r, from, units, gap)
  local function stretches(first_j, last_j, visit)
    local first, last = (s[HEAD] + first_j) % r[SLOTS], (s[HEAD] + last_j) % r[SLOTS]
    if first_j > last_j then
      return
    elseif first <= last then
      visit(first, last)
    else
      visit(first, r[SLOTS] - 1)
      visit(0, last)
    end
  end

  stretches(from, s[RUNS] - 2, function(first, last)
    local data = redis.call("GETRANGE", key, place(r, first), place(r, last) + 15)
    for slot = first, last do
      remember(s, slot, unpack("<dd", data, 16 * (slot - first) + 1))
    end
  end)
  for j = from, s[RUNS] - 2 do
    local slot = (s[HEAD] + j) % r[SLOTS]
    remember(s, (slot - gap) % r[SLOTS], s.times[slot], s.counts[slot] - units)
  end
  s[LAST_C] = s[LAST_C] - units
  s[RUNS] = s[RUNS] - gap
  stretches(from - gap, s[RUNS] - 2, function(first, last)
    local parts = {}
    for slot = first, last do
      parts[#parts + 1] = pack("<dd", s.times[slot], s.counts[slot])
    end
    redis.call("SETRANGE", key, place(r, first), table.concat(parts))
  end)
end

-- Begin the counts anew before they pass what a double counts.
local function renumber(s, r)
  local base = s[BASE]
  s[BASE], s[FIRST_C] = 0, s[FIRST_C] - base
  shift(s, r, 0, base, 0)
  settle(s)
end

local function last(s)
  return s[LAST_T]
end

local function probe(s, r, now, cost)
  local over = s[LAST_C] - s[BASE] + cost - r[LIMIT]
  if over <= 0 then
    return 0
  end
  local t = run(s, r, first_run(s, r, s[BASE] + over, true))
  return max(0, t + r[INTERVAL] - now)
end

local function commit(s, r, now, cost)
  expire(s, r, now - r[INTERVAL])
  if s[LAST_C] == s[BASE] then
    s[BASE], s[HEAD], s[RUNS] = 0, 0, 1
    s[LAST_T], s[LAST_C] = now, cost
  elseif floor(now / r[CELL]) == floor(s[LAST_T] / r[CELL]) then
    s[EARLIER], s[JOINED] = s[LAST_T], cost
    s[LAST_T], s[LAST_C] = now, s[LAST_C] + cost
  else
    local slot = (s[HEAD] + s[RUNS] - 1) % r[SLOTS]
    redis.call("SETRANGE", key, place(r, slot), pack("<dd", s[LAST_T], s[LAST_C]))
    if s.times then
      remember(s, slot, s[LAST_T], s[LAST_C])
    end
    s[RUNS] = s[RUNS] + 1
    s[LAST_T], s[LAST_C] = now, s[LAST_C] + cost
  end
  settle(s)
  if s[LAST_C] > HALF then
    renumber(s, r)
  end
end

-- Return the run that holds what was stamped `at`, or nil.
local function run_of(s, r, at)
  local j = first_run(s, r, at)
  if j == s[RUNS] or s[LAST_C] == s[BASE] then
    return nil
  end
  local t = run(s, r, j)
  return floor(t / r[CELL]) == floor(at / r[CELL]) and j or nil
end

local function give_back(s, r, _, cost, at)
  local j = run_of(s, r, at)
  if not j then
    return
  end
  local before = s[BASE]
  if j > 0 then
    before = select(2, run(s, r, j - 1))
  end
  local _, count = run(s, r, j)
  local back = min(cost, count - before)
  local emptied = back == count - before and s[RUNS] > 1
  if at == s[LAST_T] and back == s[JOINED] and floor(s[EARLIER] / r[CELL]) == floor(at / r[CELL]) then
    s[LAST_T] = s[EARLIER]
  end
  if j == s[RUNS] - 1 then
    s[JOINED] = 0
    s[LAST_C] = s[LAST_C] - back
    if emptied then
      s[LAST_T], s[LAST_C] = run(s, r, j - 1)
      s[RUNS] = j
    end
  elseif not emptied then
    shift(s, r, j, back, 0)
  elseif j > 0 then
    shift(s, r, j + 1, back, 1)
  else
    s[HEAD], s[RUNS] = (s[HEAD] + 1) % r[SLOTS], s[RUNS] - 1
    shift(s, r, 0, back, 0)
  end
  if j == 0 and s[RUNS] > 1 then
    s[FIRST_T], s[FIRST_C] = s.times[s[HEAD]], s.counts[s[HEAD]]
  end
  settle(s)
end

local function view(s, r, now)
  local used = s[LAST_C] - (count_at(s, r, now - r[INTERVAL]))
  if used == 0 then
    return r[LIMIT], 0
  end
  return r[LIMIT] - used, s[LAST_T] + r[INTERVAL] - now
end

local function rebase(s, r, now)
  local j = first_run(s, r, now + 1)
  if j == s[RUNS] then
    return
  elseif j > 0 and floor(run(s, r, j - 1) / r[CELL]) == floor(now / r[CELL]) then
    j = j - 1
  end
  s[RUNS], s[LAST_T], s[JOINED] = j + 1, now, 0
  settle(s)
end

local function idle_at(s, r)
  return s[LAST_C] > s[BASE] and s[LAST_T] + r[INTERVAL] or 0
end
