-- Another lease for the writes of a node and for the locks that they pin. Answers those that have lapsed.

local now = clock(ARGV[1])
local lease, gone = tonumber(ARGV[2]), {}
stamp()
for first = 1, #ARGV[3], 16 do
  local name = sub(ARGV[3], first, first + 15)
  local score, text = call('ZSCORE', LEASES, name), call('HGET', WRITES, name)
  if not score or not text or tonumber(score) <= now then
    drop_write(name, now)
    gone[#gone + 1] = name
  else
    call('ZADD', LEASES, 'GT', number(now + lease), name)
    local pins, at = unpackb('>I4', text)
    for _ = 1, pins do
      local id, place, _
      id, place, _, _, _, at = unpackb('>c16c16c1c1I4c0', text, at)
      local lock = at_place(place, id)
      if lock then
        lock.pinned = math.max(lock.pinned, now + lease)
        touch(lock)
        if lock.expires > 0 and lock.pinned > lock.expires then queue(lock) end
      end
    end
  end
end
lapse(now, 64)
sweep(now, 64)
settle(now)
return { 'done', table.concat(gone) }
