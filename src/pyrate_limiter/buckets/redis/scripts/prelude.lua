-- What every script starts with. All numbers are doubles that hold integers, exact below 2^53; all times are
-- microseconds. A family (the file behind this one) defines, for one state s and the numbers r of its rate:
--   fresh(r)  last(s, r)  rebase(s, r, now)  probe(s, r, now, cost)  commit(s, r, now, cost)
--   give_back(s, r, now, cost, at)  view(s, r, now)  idle_at(s, r)
-- as the Python algorithms do, with a state that changes in place; and read(key), write(key, states, ttl) for all
-- the states of a key, one per rate.
--
-- ARGV[1]: three doubles: the deadline by this server's clock (0: none), the moment to decide at (-1: this server's
-- own), and the milliseconds that a key outlives its state. ARGV[2]: how many doubles describe a rate, then those of
-- each rate. ARGV[3]: four doubles for each ask: the index of its key, cost, patience, stamp.
-- The reply: this server's clock and how far it was set back; then wait, at, remaining, reset, rate for each ask. A
-- call that comes after its deadline does nothing, and says only -1 in place of the second number.

local floor, min, max = math.floor, math.min, math.max
local pack, unpack = struct.pack, struct.unpack
local BEHIND, RESET, SECOND = -1, -9007199254740991, 1000000
local HALF = 4503599627370496 -- 2^52

local RATES = {}
do
  local width = unpack("<d", ARGV[2])
  local form = "<" .. string.rep("d", width)
  for first = 9, #ARGV[2], 8 * width do
    RATES[#RATES + 1] = { unpack(form, ARGV[2], first) }
  end
end
-- Most buckets have one rate: these save them the loops.
local ONE, R = #RATES == 1, RATES[1]

-- Return the quotient and the remainder of a * b / m, for b <= m: exact where a * b is not.
local function muldiv(a, b, m)
  if a * b < HALF then
    local quotient = floor(a * b / m)
    return quotient, a * b - quotient * m
  end
  local base, digits = floor(HALF / m), {}
  while a > 0 do
    digits[#digits + 1] = a % base
    a = floor(a / base)
  end
  local quotient, rest = 0, 0
  for i = #digits, 1, -1 do
    local part = rest * base + digits[i] * b
    local whole = floor(part / m)
    quotient, rest = quotient * base + whole, part - whole * m
  end
  return quotient, rest
end

-- The states of families whose state is a few numbers: one string for all rates.
local function read_numbers(key, form, size)
  local data = redis.call("GET", key)
  if not data then
    return nil
  end
  if #data ~= size * #RATES then
    return redis.error_reply("WRONGTYPE " .. #data .. " bytes, not " .. size * #RATES)
  end
  local states = {}
  for i = 1, #RATES do
    states[i] = { unpack(form, data, size * (i - 1) + 1) }
  end
  return states
end

local function write_numbers(key, form, states, ttl)
  if ONE then
    local s = states[1]
    redis.call("SET", key, pack(form, s[1], s[2], s[3]), "PX", ttl)
    return
  end
  local parts = {}
  for i, s in ipairs(states) do
    parts[i] = pack(form, s[1], s[2], s[3])
  end
  redis.call("SET", key, table.concat(parts), "PX", ttl)
end
