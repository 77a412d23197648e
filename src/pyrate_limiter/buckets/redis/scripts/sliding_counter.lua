-- The sliding counter. A state is the window's number, what the one before it counted, and what it counts.

local STATE, RATE = "<ddd", "<dd"
local STATE_SIZE, NUMBERS, RATE_SIZE = 24, 3, 16
local LIMIT, INTERVAL = 1, 2

local function fresh(s)
  s[1], s[2], s[3] = -1, 0, 0
end

local function last(s, r)
  return s[1] * r[INTERVAL]
end

local function rolled(s, r, now)
  local window = floor(now / r[INTERVAL])
  if s[1] == window then
    return window, s[2], s[3]
  end
  return window, s[1] == window - 1 and s[3] or 0, 0
end

-- Return how far into a window the weight of an older one has sunk to `room` units.
local function fits_after(r, older, room)
  if room >= older then
    return 0
  end
  return r[INTERVAL] - (muldiv(r[INTERVAL], room, older))
end

local function probe(s, r, now, cost)
  local window, older, count = rolled(s, r, now)
  local start, room = window * r[INTERVAL], r[LIMIT] - count - cost
  if room >= 0 then
    local within = fits_after(r, older, room)
    if within < r[INTERVAL] then
      return max(0, start + within - now)
    end
  end
  return start + r[INTERVAL] + fits_after(r, count, r[LIMIT] - cost) - now
end

local function commit(s, r, now, cost)
  local window, older, count = rolled(s, r, now)
  s[1], s[2], s[3] = window, older, count + cost
end

local function give_back(s, r, _, cost, at)
  local window = floor(at / r[INTERVAL])
  if window == s[1] then
    s[3] = s[3] - min(cost, s[3])
  elseif window == s[1] - 1 then
    s[2] = s[2] - min(cost, s[2])
  end
end

local function idle_at(s, r)
  if s[3] > 0 then
    return (s[1] + 2) * r[INTERVAL]
  end
  return s[2] > 0 and (s[1] + 1) * r[INTERVAL] or 0
end

local function view(s, r, now)
  local window, older, count = rolled(s, r, now)
  local weighed, rest = muldiv(older, (window + 1) * r[INTERVAL] - now, r[INTERVAL])
  local left = r[LIMIT] - count - weighed - (rest > 0 and 1 or 0)
  return max(0, left), max(0, idle_at(s, r) - now)
end

local function rebase(s, r, now)
  local current = floor(now / r[INTERVAL])
  if s[1] <= current then
    return
  end
  if s[3] > 0 then
    s[1], s[2] = current, s[1] - 1 == current and s[2] or 0
  else
    s[1], s[2], s[3] = current, 0, s[2]
  end
end
