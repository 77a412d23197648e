-- GCRA, and its paced form. A state is the theoretical arrival time as q whole microseconds and r of 1 / Q of one,
-- and the stamp of the last grant. The emission interval is (A * Q + B) / Q microseconds.

local STATE, RATE = "<ddd", "<ddddddd"
local STATE_SIZE, NUMBERS, RATE_SIZE = 24, 3, 56
local CAPACITY, WHOLE, PART, Q, FULL, FULL_PART, PACED = 1, 2, 3, 4, 5, 6, 7

local function fresh(s)
  s[1], s[2], s[3] = 0, 0, 0
end

local function last(s)
  return s[3]
end

-- Return the time of so many units, in microseconds and parts of one.
local function emission(r, units)
  local whole, part = muldiv(units, r[PART], r[Q])
  return units * r[WHOLE] + whole, part
end

local function probe(s, r, now, cost)
  if r[PACED] == 1 then
    return max(0, s[1] - now + (s[2] > 0 and 1 or 0))
  end
  local whole, part = emission(r, r[CAPACITY] - cost)
  return max(0, s[1] - now - whole + (s[2] > part and 1 or 0))
end

local function commit(s, r, now, cost)
  local whole, part = emission(r, cost)
  if s[1] < now then
    s[1], s[2] = now, 0
  end
  s[1], s[2], s[3] = s[1] + whole, s[2] + part, now
  if s[2] >= r[Q] then
    s[1], s[2] = s[1] + 1, s[2] - r[Q]
  end
end

local function give_back(s, r, _, cost, at)
  local whole, part = emission(r, min(cost, r[CAPACITY]))
  whole = whole - (s[3] - at)
  if at > s[3] or whole < 0 or (whole == 0 and part == 0) then
    return
  end
  s[1], s[2] = s[1] - whole, s[2] - part
  if s[2] < 0 then
    s[1], s[2] = s[1] - 1, s[2] + r[Q]
  end
  if s[1] < 0 then
    s[1], s[2] = 0, 0
  end
end

local function view(s, r, now)
  local ahead = s[1] - now + (s[2] > 0 and 1 or 0)
  if ahead <= 0 then
    return r[CAPACITY], 0
  elseif r[PACED] == 1 then
    return 0, ahead
  end
  if (r[FULL] + 1) * r[Q] < HALF then
    local room = (r[FULL] - s[1] + now) * r[Q] + r[FULL_PART] - s[2]
    return floor(room / (r[WHOLE] * r[Q] + r[PART])), ahead
  end
  local room = r[FULL] - (s[1] - now) + (r[FULL_PART] - s[2]) / r[Q]
  local left = max(0, min(r[CAPACITY], floor(room / (r[WHOLE] + r[PART] / r[Q]))))
  while left < r[CAPACITY] and probe(s, r, now, left + 1) == 0 do
    left = left + 1
  end
  while left > 0 and probe(s, r, now, left) > 0 do
    left = left - 1
  end
  return left, ahead
end

local function rebase(s, r, now)
  local whole, part = now + r[FULL], r[FULL_PART]
  if s[1] > whole or (s[1] == whole and s[2] > part) then
    s[1], s[2] = whole, part
  end
  s[3] = min(s[3], now)
end

local function idle_at(s)
  return s[1] + (s[2] > 0 and 1 or 0)
end
