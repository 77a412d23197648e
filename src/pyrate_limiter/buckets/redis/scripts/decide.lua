-- The rule by which a batch is decided, for every family: see the Python function of the same name.

local deadline, injected, grace = unpack("<ddd", ARGV[1])
local time = redis.call("TIME")
local clock = time[1] * SECOND + time[2]
if deadline > 0 and clock > deadline then
  return { clock, -1 }
end
local now = injected < 0 and clock or injected
local reply, n = { clock, 0 }, 2

local rates = {}
for i = 1, N do
  rates[i] = { unpack(RATE, ARGV[2], (i - 1) * RATE_SIZE + 1) }
end

local keys = {}
for k, name in ipairs(KEYS) do
  local states, data = { changed = false, closed = false }, load(name, N * STATE_SIZE)
  if data and data ~= "" and #data ~= N * STATE_SIZE then
    return redis.error_reply("WRONGTYPE " .. #data .. " bytes, not " .. N * STATE_SIZE)
  end
  for i = 1, N do
    if data and data ~= "" then
      states[i] = { unpack(STATE, data, (i - 1) * STATE_SIZE + 1) }
    else
      states[i] = {}
      fresh(states[i])
    end
  end
  keys[k] = states
end

for first = 1, #ARGV[3], 40 do
  local k, cost, patience, at, count = unpack("<ddddd", ARGV[3], first)
  local states = keys[k]
  key = KEYS[k]
  while count > 0 do
    local alike, wait, moment, left, reset, index = count, BEHIND, now, 0, 0, 1
    if cost <= 0 or not states.closed then
      if cost == RESET then
        redis.call("DEL", key)
        states.changed = false
        for i = 1, N do
          fresh(states[i])
        end
      end

      -- A moment that is not before the last stamp, unless the clock was set back.
      for i = 1, N do
        moment = max(moment, last(states[i], rates[i]))
      end
      if moment - now >= SECOND then
        reply[2] = max(reply[2], moment - now)
        moment = now
        states.changed = true
        for i = 1, N do
          rebase(states[i], rates[i], now)
        end
      end

      wait = 0
      if cost >= 0 then
        for i = 1, N do
          local said = probe(states[i], rates[i], moment, max(cost, 1))
          if said > wait then
            wait, index = said, i
          end
        end
      end
      if cost > 0 and wait == 0 then
        states.changed = true
        for i = 1, N do
          commit(states[i], rates[i], moment, cost)
        end
      elseif cost < 0 and cost ~= RESET then
        states.changed = true
        for i = 1, N do
          give_back(states[i], rates[i], moment, -cost, at)
        end
      end

      -- What is left of the rate that refused, or of the tightest; and when the key is as new.
      left = nil
      for i = 1, N do
        local units, as_new = view(states[i], rates[i], moment)
        reset = max(reset, as_new)
        if wait > 0 then
          left = i == index and units or left
        elseif not left or units < left then
          left, index = units, i
        end
      end

      if wait > 0 and cost > 0 and wait <= patience then
        states.closed = true
        alike = 1
      elseif wait == 0 and count > 1 then
        -- As many more as fit, in one go; the last by itself, as if each had come alone.
        alike = min(count, 1 + floor(left / cost))
        for i = 1, alike > 1 and N or 0 do
          if alike > 2 then
            commit(states[i], rates[i], moment, (alike - 2) * cost)
          end
          commit(states[i], rates[i], moment, cost)
        end
      end
    end
    reply[n + 1], reply[n + 2], reply[n + 3] = alike, wait, moment
    reply[n + 4], reply[n + 5], reply[n + 6] = left, reset, index - 1
    n = n + 6
    count = count - alike
  end
end

for k, states in ipairs(keys) do
  if states.changed then
    local idle, data = now, ""
    for i = 1, N do
      idle = max(idle, idle_at(states[i], rates[i]))
      data = data .. pack(STATE, spread(states[i], 1, NUMBERS))
    end
    save(KEYS[k], data, floor((idle - now + 999) / 1000) + grace)
  end
end
return reply
