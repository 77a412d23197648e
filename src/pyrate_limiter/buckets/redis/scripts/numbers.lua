-- For families whose states are a few numbers: one string for all rates.

local function load(name)
  return redis.call("GET", name)
end

local function save(name, data, ttl)
  redis.call("SET", name, data, "PX", ttl)
end
