-- The sliding-window log. One string holds, for each rate, a header of nine doubles, and behind all headers, for each
-- rate, a ring of slots (time, cumulative count) for its runs, oldest first. The newest run stands in the header only,
-- its slot is written when the next one comes; the oldest stands there too, to save reading it. So a grant writes the
-- header and at most one slot, whatever the limit, and nothing is read whole but to give back. A grant also lets go of
-- the runs that it finds to be an interval old, so none is ever that much older than the newest.

local LIMIT, INTERVAL, CELL, SLOTS = 1, 2, 3, 4
local HEADER, FORM = 72, "<ddddddddd"
local NEVER = -4611686018427387904 -- -2^62

do
  local offset = HEADER * #RATES
  for _, r in ipairs(RATES) do
    r.ring = offset
    offset = offset + 16 * r[SLOTS]
  end
end

local function fresh(r, key)
  return {
    base = 0, -- the cumulative count before the oldest run
    head = 0, -- the slot of the oldest run
    n = 1, -- how many runs, at least one
    first_t = NEVER, first_c = 0, last_t = NEVER, last_c = 0,
    earlier = 0, joined = 0, -- which time the newest run had before its last join, and how many units joined
    key = key, ring = r.ring, slots = r[SLOTS],
    times = {}, counts = {}, -- by slot: what was read or written in this call
  }
end

local function read(key)
  local data = redis.call("GETRANGE", key, 0, HEADER * #RATES - 1)
  if data == "" then
    return nil
  end
  if #data ~= HEADER * #RATES then
    return redis.error_reply("WRONGTYPE " .. #data .. " bytes, not " .. HEADER * #RATES)
  end
  local states = {}
  for i, r in ipairs(RATES) do
    local s = fresh(r, key)
    s.base, s.head, s.n, s.first_t, s.first_c, s.last_t, s.last_c, s.earlier, s.joined =
      unpack(FORM, data, HEADER * (i - 1) + 1)
    states[i] = s
  end
  return states
end

local function write(key, states, ttl)
  local parts = {}
  for i, s in ipairs(states) do
    parts[i] = pack(FORM, s.base, s.head, s.n, s.first_t, s.first_c, s.last_t, s.last_c, s.earlier, s.joined)
  end
  redis.call("SETRANGE", key, 0, table.concat(parts))
  redis.call("PEXPIRE", key, ttl)
end

-- Call visit(first slot, last slot) for the one or two stretches of the string in which these runs stand.
local function stretches(s, from, to, visit)
  local first, last = (s.head + from) % s.slots, (s.head + to) % s.slots
  if from > to then
    return
  elseif first <= last then
    visit(first, last)
  else
    visit(first, s.slots - 1)
    visit(0, last)
  end
end

local function fetch(s, from, to)
  stretches(s, from, to, function(first, last)
    local data = redis.call("GETRANGE", s.key, s.ring + 16 * first, s.ring + 16 * last + 15)
    for slot = first, last do
      if not s.times[slot] then
        s.times[slot], s.counts[slot] = unpack("<dd", data, 16 * (slot - first) + 1)
      end
    end
  end)
end

local function store(s, from, to)
  stretches(s, from, to, function(first, last)
    local parts = {}
    for slot = first, last do
      parts[#parts + 1] = pack("<dd", s.times[slot], s.counts[slot])
    end
    redis.call("SETRANGE", s.key, s.ring + 16 * first, table.concat(parts))
  end)
end

local function run(s, j)
  if j == s.n - 1 then
    return s.last_t, s.last_c
  elseif j == 0 then
    return s.first_t, s.first_c
  end
  local slot = (s.head + j) % s.slots
  if not s.times[slot] then
    fetch(s, j, j)
  end
  return s.times[slot], s.counts[slot]
end

-- Return the first run from lo to hi whose time (or count) is at least `bound`; hi + 1 if there is none.
local function bisect(s, lo, hi, bound, by_count)
  hi = hi + 1
  while lo < hi do
    local middle = floor((lo + hi) / 2)
    local t, c = run(s, middle)
    if (by_count and c or t) < bound then
      lo = middle + 1
    else
      hi = middle
    end
  end
  return lo
end

-- Return the cumulative count of the runs up to a horizon, and the first run behind it, or else the newest.
local function count_at(s, horizon)
  if s.first_t > horizon then
    return s.base, 0
  elseif s.last_t <= horizon then
    return s.last_c, s.n - 1
  end
  local from, step = 0, 1
  while from + step < s.n - 1 and run(s, from + step) <= horizon do
    from, step = from + step, 2 * step
  end
  local live = bisect(s, from, min(from + step, s.n - 1), horizon + 1)
  local _, before = run(s, live - 1)
  return before, live
end

local function expire(s, horizon)
  if s.first_t > horizon then
    return
  end
  local base, live = count_at(s, horizon)
  local t, c = run(s, live)
  s.base, s.head, s.n = base, (s.head + live) % s.slots, s.n - live
  s.first_t, s.first_c = t, c
end

-- Keep the oldest run's copy in the header right when it is the newest too.
local function settle(s)
  if s.n == 1 then
    s.first_t, s.first_c = s.last_t, s.last_c
  end
end

-- Take `units` off the counts of the runs from `from` on, and close the gap of `gap` slots in front of them.
local function shift(s, from, units, gap)
  fetch(s, from, s.n - 2)
  for j = from, s.n - 2 do
    local slot = (s.head + j) % s.slots
    local target = (slot - gap) % s.slots
    s.times[target], s.counts[target] = s.times[slot], s.counts[slot] - units
  end
  s.last_c = s.last_c - units
  s.n = s.n - gap
  store(s, from - gap, s.n - 2)
end

-- Begin the counts anew before they pass what a double counts.
local function renumber(s)
  local base = s.base
  s.base, s.first_c = 0, s.first_c - base
  shift(s, 0, base, 0)
  settle(s)
end

local function last(s)
  return s.last_t
end

local function probe(s, r, now, cost)
  local over = s.last_c - s.base + cost - r[LIMIT]
  if over <= 0 then
    return 0
  end
  local t = run(s, bisect(s, 0, s.n - 1, s.base + over, true))
  return max(0, t + r[INTERVAL] - now)
end

local function commit(s, r, now, cost)
  expire(s, now - r[INTERVAL])
  if s.last_c == s.base then
    s.base, s.head, s.n = 0, 0, 1
    s.last_t, s.last_c = now, cost
  elseif floor(now / r[CELL]) == floor(s.last_t / r[CELL]) then
    s.earlier, s.joined = s.last_t, cost
    s.last_t, s.last_c = now, s.last_c + cost
  else
    local slot = (s.head + s.n - 1) % s.slots
    s.times[slot], s.counts[slot] = s.last_t, s.last_c
    store(s, s.n - 1, s.n - 1)
    s.n = s.n + 1
    s.last_t, s.last_c = now, s.last_c + cost
  end
  settle(s)
  if s.last_c > HALF then
    renumber(s)
  end
end

-- Return the run that holds what was stamped `at`, or nil.
local function run_of(s, r, at)
  local j = bisect(s, 0, s.n - 1, at)
  if j == s.n or s.last_c == s.base then
    return nil
  end
  local t = run(s, j)
  return floor(t / r[CELL]) == floor(at / r[CELL]) and j or nil
end

local function give_back(s, r, _, cost, at)
  local j = run_of(s, r, at)
  if not j then
    return
  end
  local before = s.base
  if j > 0 then
    before = select(2, run(s, j - 1))
  end
  local _, count = run(s, j)
  local back = min(cost, count - before)
  local emptied = back == count - before and s.n > 1
  if at == s.last_t and back == s.joined and floor(s.earlier / r[CELL]) == floor(at / r[CELL]) then
    s.last_t = s.earlier
  end
  if j == s.n - 1 then
    s.joined = 0
    s.last_c = s.last_c - back
    if emptied then
      s.last_t, s.last_c = run(s, j - 1)
      s.n = j
    end
  elseif not emptied then
    shift(s, j, back, 0)
  elseif j > 0 then
    shift(s, j + 1, back, 1)
  else
    s.head, s.n = (s.head + 1) % s.slots, s.n - 1
    shift(s, 0, back, 0)
  end
  if j == 0 and s.n > 1 then
    s.first_t, s.first_c = s.times[s.head], s.counts[s.head]
  end
  settle(s)
end

local function view(s, r, now)
  local used = s.last_c - (count_at(s, now - r[INTERVAL]))
  if used == 0 then
    return r[LIMIT], 0
  end
  return r[LIMIT] - used, s.last_t + r[INTERVAL] - now
end

local function rebase(s, r, now)
  local j = bisect(s, 0, s.n - 1, now + 1)
  if j == s.n then
    return
  elseif j > 0 and floor(run(s, j - 1) / r[CELL]) == floor(now / r[CELL]) then
    j = j - 1
  end
  s.n, s.last_t, s.joined = j + 1, now, 0
  settle(s)
end

local function idle_at(s, r)
  return s.last_c > s.base and s.last_t + r[INTERVAL] or 0
end
