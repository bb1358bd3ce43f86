-- The keys, in the order in which the client sends them, and short names.

local LOCKS, IDS, TOKENS, EXCLUSIVE, SHARED, OWNERS, ENDS, DEAD, DEAD_IDS, DEAD_QUEUE, COOLING, WRITES, LEASES, POINTS, TREES =
  unpack(KEYS)
local call, sub, format = redis.call, string.sub, string.format
local pack, unpackb = struct.pack, struct.unpack
