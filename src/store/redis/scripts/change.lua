-- How locks come, change and go. Every script that uses this ends with settle().

local CHANNEL = sub(LOCKS, 1, -6) .. 'events'
local REMEMBER = 100000
local NOBODY = string.rep('\0', 16)
local dirty, buried = {}, 0

-- The number of the latest grant; changed, it is written by settle().
local latest, numbered

local function stamp()
  local head = call('HMGET', LOCKS, 'schema', 'generation')
  if not stamped(head[1]) then call('HSET', LOCKS, 'schema', '1') end
  latest = tonumber(head[2] or 0)
end

-- It has changed.
local function touch(lock)
  lock.text = nil
  dirty[lock.place] = true
end

local function queue(lock)
  local at = lock.expires
  if at > 0 and lock.pins > 0 and lock.pinned > at then at = lock.pinned end
  if lock.life > 0 and (at == 0 or at > lock.life) then at = lock.life end
  call('ZADD', ENDS, at > 0 and number(at) or '+inf', lock.id)
end

local function link(lock)
  local list = cell(lock.place)
  list[#list + 1] = lock
  touch(lock)
  call('HSET', IDS, lock.id, lock.place)
  call('HSET', TOKENS, lock.digest, lock.place .. lock.id)
  local name, member = index(lock)
  call('ZADD', name, 0, member)
  call('ZADD', OWNERS, 0, lock.who .. '\0' .. member)
  queue(lock)
end

local function unlink(lock)
  local list = cell(lock.place)
  for at, other in ipairs(list) do
    if other == lock then table.remove(list, at) break end
  end
  dirty[lock.place] = true
  call('HDEL', IDS, lock.id)
  call('HDEL', TOKENS, lock.digest)
  local name, member = index(lock)
  call('ZREM', name, member)
  call('ZREM', OWNERS, lock.who .. '\0' .. member)
  call('ZREM', ENDS, lock.id)
end

-- Events hold no digest.
local function tell(kind, lock, now, cause, breaker)
  local text, by = write(lock), breaker or ''
  text = sub(text, 1, 84) .. NOBODY .. sub(text, 101)
  call('PUBLISH', CHANNEL, pack('>c1dc1I4c0I4c0', kind, now, cause or '-', #text, text, #by, by))
end

local function forget(digest)
  local text = call('HGET', DEAD, digest)
  if text then
    local _, _, _, id = unpackb('>ddc1c16', text)
    if call('HGET', DEAD_IDS, id) == digest then call('HDEL', DEAD_IDS, id) end
    call('HDEL', DEAD, digest)
  end
  call('ZREM', DEAD_QUEUE, digest)
end

local function remember(digest, id, text, now)
  call('HSET', DEAD, digest, text)
  if id ~= NOBODY then call('HSET', DEAD_IDS, id, digest) end
  call('ZADD', DEAD_QUEUE, number(now), digest)
  buried = buried + 1
end

-- Where an acquire has just given up, nobody may wait for twice as long again.
local function cool(lock, now)
  call('ZREMRANGEBYSCORE', COOLING, '-inf', number(now))
  if call('ZCARD', COOLING) >= 1024 then call('ZPOPMIN', COOLING) end
  local until_, member = now + 2 * lock.gen, lock.depth .. lock.key
  local other = call('ZSCORE', COOLING, member)
  if not other or tonumber(other) < until_ then call('ZADD', COOLING, number(until_), member) end
end

-- Ends a lock, remembers it and says so. A mark whose time is up only goes.
local function bury(lock, now, cause, breaker)
  local at = now
  unlink(lock)
  if cause == 'e' then
    if lock.state == 'p' then return cool(lock, now) end
    at, cause = by_itself(lock, now)
    breaker = lock.breaker
  end
  breaker = breaker or ''
  if lock.state ~= 'p' then tell('e', lock, now, cause, breaker) end
  remember(lock.digest, lock.id, epitaph(now, at, cause, lock.id, lock.who, lock.key, breaker), now)
end

-- The lock if it counts; one that does not any more is buried.
local function living(lock, now)
  if not lock then return nil end
  if live(lock, now) then return lock end
  bury(lock, now, 'e')
end

-- What became of the lock with this token, as far as it is known.
local function lost(digest, now)
  local lock = by_token(digest)
  if lock and lock.state ~= 'p' then
    local at, cause = by_itself(lock, now)
    return epitaph(now, at, cause, lock.id, lock.who, lock.key, lock.breaker)
  end
  return grave(digest, now)
end

-- Buries up to `most` of those whose time is up.
local function sweep(now, most)
  local due = call('ZRANGEBYSCORE', ENDS, '-inf', number(now), 'LIMIT', 0, most)
  for _, id in ipairs(due) do
    local lock = by_id(id)
    if not lock then
      call('ZREM', ENDS, id)
    elseif living(lock, now) then
      queue(lock)
    end
  end
  return #due
end

-- Takes one registration away, and the pins that it set. It is kept as the locks that it pins, and what it changes.
local function drop_write(name, now)
  local text = call('HGET', WRITES, name)
  call('ZREM', LEASES, name)
  if not text then return end
  call('HDEL', WRITES, name)
  local pins, at = unpackb('>I4', text)
  for _ = 1, pins do
    local id, place, _
    id, place, _, _, _, at = unpackb('>c16c16c1c1I4c0', text, at)
    local lock = at_place(place, id)
    if lock then
      lock.pins = math.max(lock.pins - 1, 0)
      if lock.pins == 0 then lock.pinned = 0 end
      touch(lock)
      if living(lock, now) and lock.pins == 0 then queue(lock) end
    end
  end
  local targets
  targets, at = unpackb('>I4', text, at)
  for _ = 1, targets do
    local effect, key, parent
    effect, key, parent, at = unpackb('>c1I4c0I4c0', text, at)
    call('ZREM', POINTS, key .. '\0p' .. name)
    if effect == 'u' then call('ZREM', TREES, key .. '\0' .. name) end
    if parent ~= '' then call('ZREM', POINTS, parent .. '\0m' .. name) end
  end
end

-- Registrations whose lease has run out are gone for good.
local function lapse(now, most)
  for _, name in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', number(now), 'LIMIT', 0, most)) do drop_write(name, now) end
end

-- Writes what has changed, and forgets what is too old or too much.
local function settle(now)
  for place in pairs(dirty) do
    local list, texts = cells[place], {}
    for at, lock in ipairs(list) do
      local text = write(lock)
      texts[at] = pack('>I4', #text) .. text
    end
    if #list > 0 then
      call('HSET', LOCKS, place, table.concat(texts))
    else
      call('HDEL', LOCKS, place)
    end
  end
  if numbered then call('HSET', LOCKS, 'generation', number(latest)) end
  if buried > 0 then
    local old = call('ZRANGEBYSCORE', DEAD_QUEUE, '-inf', number(now - HOUR), 'LIMIT', 0, buried + 64)
    for _, digest in ipairs(old) do forget(digest) end
    local over = call('ZCARD', DEAD_QUEUE) - REMEMBER
    if over > 0 then
      for _, digest in ipairs(call('ZRANGE', DEAD_QUEUE, 0, over - 1)) do forget(digest) end
    end
  end
end

-- The number of a grant: larger than any before, and than those of an engine that lost some.
local function generation(now)
  latest, numbered = math.max(latest + 1, now), true
  return latest
end
