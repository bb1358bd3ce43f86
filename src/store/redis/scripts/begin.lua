-- The commonest write first: it submits no token, takes nothing away with all below it, and nothing at all is locked at or
-- above what it changes. It is registered before anything else of this script is even read, and the writes that have ended
-- since the last call are taken away on the way, unless one of them holds locks.

local now
if sub(ARGV[1], 1, 1) == '=' then
  now = tonumber(sub(ARGV[1], 2))
else
  local time = call('TIME')
  now = time[1] * 1000000 + time[2] + tonumber(ARGV[1])
end

if ARGV[7] == 'y' then
  local chain, ended, fields = ARGV[4], ARGV[8], { 'schema', 'generation' }
  for at = 1, #chain, 16 do fields[#fields + 1] = sub(chain, at, at + 15) end
  local found, clear = call('HMGET', LOCKS, unpack(fields)), true
  for at = 3, #fields do clear = clear and not found[at] end
  local records = ended ~= '' and {} or nil
  for at = 1, #ended, 16 do
    local record = call('HGET', WRITES, sub(ended, at, at + 15))
    records[#records + 1] = record
    clear = clear and (not record or sub(record, 1, 4) == '\0\0\0\0')
  end
  if clear and found[1] == '1' then
    for nth = 1, #ended / 16 do
      local record = records[nth]
      if record then
        local name = sub(ended, nth * 16 - 15, nth * 16)
        call('HDEL', WRITES, name)
        call('ZREM', LEASES, name)
        local count, at = unpackb('>I4', record, 5)
        for _ = 1, count do
          local effect, key, parent
          effect, key, parent, at = unpackb('>c1I4c0I4c0', record, at)
          call('ZREM', POINTS, key .. '\0p' .. name)
          if effect == 'u' then call('ZREM', TREES, key .. '\0' .. name) end
          if parent ~= '' then call('ZREM', POINTS, parent .. '\0m' .. name) end
        end
      end
    end
    local lease, name = unpackb('>dc16', ARGV[2])
    local targets = ARGV[3]
    call('HSET', WRITES, name, '\0\0\0\0' .. targets)
    call('ZADD', LEASES, format('%.0f', now + lease), name)
    local count, at = unpackb('>I4', targets)
    for _ = 1, count do
      local _, key, parent
      _, key, parent, at = unpackb('>c1I4c0I4c0', targets, at)
      call('ZADD', POINTS, 0, key .. '\0p' .. name)
      if parent ~= '' then call('ZADD', POINTS, 0, parent .. '\0m' .. name) end
    end
    return { 'r', format('%.0f', now), found[2] or '0', 0 }
  end
end
