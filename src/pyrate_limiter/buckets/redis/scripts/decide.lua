-- The rule by which a batch is decided, for every family: see the Python function of the same name.

local deadline, injected, grace = unpack("<ddd", ARGV[1])
local time = redis.call("TIME")
local clock = time[1] * SECOND + time[2]
if deadline > 0 and clock > deadline then
  return { clock, -1 }
end
local now = injected < 0 and clock or injected
local reply = { clock, 0 }
local states, changed, closed = {}, {}, {}

-- Call one function of the family for the state of every rate.
local function each(act, one, moment, cost, at)
  if ONE then
    return act(one[1], R, moment, cost, at)
  end
  for i, r in ipairs(RATES) do
    act(one[i], r, moment, cost, at)
  end
end

-- Return the largest of what a function says for the rates, and the first rate that says it.
local function largest(say, one, moment, cost)
  if ONE then
    return say(one[1], R, moment, cost), 1
  end
  local most, index = nil, nil
  for i, r in ipairs(RATES) do
    local said = say(one[i], r, moment, cost)
    if not most or said > most then
      most, index = said, i
    end
  end
  return most, index
end

local function fresh_states(key)
  local one = {}
  for i, r in ipairs(RATES) do
    one[i] = fresh(r, key)
  end
  return one
end

-- Return a moment that is not before the last stamp of these states.
local function in_order(k, one)
  local newest = largest(last, one)
  if now >= newest then
    return now
  elseif newest - now < SECOND then
    return newest
  end
  reply[2] = max(reply[2], newest - now)
  each(rebase, one, now)
  changed[k] = true
  return now
end

-- Return the units left of the tightest rate, or of the one that refused, when a key is as new, and that rate's index.
local function seen(one, moment, refused)
  if ONE then
    local left, reset = view(one[1], R, moment)
    return left, reset, 0
  end
  local tightest, index, reset = nil, nil, 0
  for i, r in ipairs(RATES) do
    local left, as_new = view(one[i], r, moment)
    reset = max(reset, as_new)
    if not tightest or left < tightest then
      tightest, index = left, i
    end
  end
  if refused > 0 then
    index = select(2, largest(probe, one, moment, refused))
    tightest = view(one[index], RATES[index], moment)
  end
  return tightest, reset, index - 1
end

local function answer(k, cost, at)
  local key, one = KEYS[k], states[k]
  if cost == RESET then
    redis.call("DEL", key)
    one = fresh_states(key)
    changed[k] = nil
  end
  states[k] = one
  local moment = in_order(k, one)
  local wait = 0
  if cost >= 0 then
    wait = largest(probe, one, moment, max(cost, 1))
  end
  if cost > 0 and wait == 0 then
    each(commit, one, moment, cost)
    changed[k] = true
  elseif cost < 0 and cost ~= RESET then
    each(give_back, one, moment, -cost, at)
    changed[k] = true
  end
  return wait, moment, seen(one, moment, wait > 0 and max(cost, 1) or 0)
end

for k, key in ipairs(KEYS) do
  local one = read(key)
  if one and one.err then
    return one
  end
  states[k] = one or fresh_states(key)
end

local asks, n = ARGV[3], 2
for first = 1, #asks, 32 do
  local k, cost, patience, at = unpack("<dddd", asks, first)
  local wait, moment, left, reset, rate = BEHIND, now, 0, 0, 0
  if cost <= 0 or not closed[k] then
    wait, moment, left, reset, rate = answer(k, cost, at)
    closed[k] = closed[k] or (cost > 0 and wait > 0 and wait <= patience)
  end
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = wait, moment, left, reset, rate
  n = n + 5
end

for k in pairs(changed) do
  local lives = max(0, largest(idle_at, states[k]) - now)
  write(KEYS[k], states[k], floor((lives + 999) / 1000) + grace)
end
return reply
