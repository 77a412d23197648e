-- What every script starts with. All numbers are doubles that hold integers, exact below 2^53; all times are
-- microseconds. A family (the file behind this one) defines, for one state s and the numbers r of its rate:
--   last(s, r)  rebase(s, r, now)  probe(s, r, now, cost)  commit(s, r, now, cost)  give_back(s, r, now, cost, at)
--   view(s, r, now)  idle_at(s, r)
-- as the Python algorithms do, with a state that changes in place; fresh(s), which makes it new; load(key, size) and
-- save(key, data, ttl); and what pack and unpack call a rate and a state, how many bytes each has, and how many
-- numbers a state.
--
-- ARGV[1]: three doubles: the deadline by this server's clock (0: none), the moment to decide at (-1: this server's
-- own), and the milliseconds that a key outlives its state. ARGV[2]: the doubles that describe each rate. ARGV[3]:
-- five doubles for each ask: the index of its key, cost, patience, stamp, and how many like it follow each other.
-- The reply: this server's clock and how far it was set back; then how many asks in a row are answered alike, wait, at,
-- remaining, reset, rate. Of several that are admitted alike, that is the answer of the first: each leaves less. A call
-- that comes after its deadline does nothing, and says only -1 in place of the second number.
--
-- A server makes every function and looks up every name anew for each call, which takes longer than to decide. So
-- there are few of both: names in capitals whose values are numbers are replaced by these before a server sees them.

local floor, min, max = math.floor, math.min, math.max
local pack, unpack, spread = struct.pack, struct.unpack, unpack
local BEHIND, RESET, SECOND = -1, -9007199254740991, 1000000
local HALF = 4503599627370496 -- 2^52
local N = #ARGV[2] / RATE_SIZE -- how many rates
local key -- whose states are being decided
