-- Writes in flight that a lock to come would refuse, and how such a lock is granted or waits.

-- Whether a shared lock of the writer's own answers for the lock to come as well, of all that it writes.
local function excused(name, coming, now)
  if coming.scope ~= 's' or coming.kind == 'freeze' then return false end
  local text = call('HGET', WRITES, name)
  if not text then return true end
  local count, at = unpackb('>I4', text)
  local own = {}
  for nth = 1, count do
    local one = {}
    one.id, one.place, one.scope, one.depth, one.key, at = unpackb('>c16c16c1c1I4c0', text, at)
    own[nth] = one
  end
  local targets = count > 0 and targets_of(text, at)
  for _, one in ipairs(own) do
    if one.scope == 's' and vouches(one, coming, targets) then
      local lock = at_place(one.place, one.id)
      if lock and live(lock, now) then return true end
    end
  end
  return false
end

-- Calls `each(member)` for all that go with everything below them, `key` included, until it answers true.
local function under_a_tree(key, each)
  local trees = call('ZCARD', TREES)
  if trees == 0 then return false end
  if trees <= 512 then
    for _, member in ipairs(call('ZRANGE', TREES, 0, -1)) do
      if below(key, sub(member, 1, -18)) and each(member) then return true end
    end
    return false
  end
  for at = #key, 1, -1 do
    local byte = string.byte(key, at)
    -- What stands before the NUL is the namespace.
    if byte == 0 then return false end
    if byte == 47 then
      local above = sub(key, 1, at - 1)
      if walk(TREES, '[' .. above .. '\0', '(' .. above .. '\1', each) then return true end
    end
  end
  return false
end

-- Whether a write but `within` is in flight that one of `all` would refuse. A lapsed one is taken away when it is met.
local function met(all, within, now)
  if call('ZCARD', POINTS) == 0 then return false end
  lapse(now, 64)
  local lapsed, found = {}, false
  local function stands(name, coming)
    local lease = call('ZSCORE', LEASES, name)
    if not lease or tonumber(lease) <= now then
      lapsed[#lapsed + 1] = name
      return false
    end
    return name ~= within and not excused(name, coming, now)
  end
  for _, coming in ipairs(all) do
    local function each(member) return stands(sub(member, -16), coming) end
    local key = coming.key
    found = found or walk(POINTS, '[' .. key .. '\0', '(' .. key .. '\1', each)
    if not found and coming.depth == 'i' then found = walk(POINTS, '[' .. key .. '/', '(' .. key .. '0', each) end
    found = found or under_a_tree(key, each)
    if found then break end
  end
  for _, name in ipairs(lapsed) do drop_write(name, now) end
  return found
end

local function earlier(one, other)
  if one == 0 or (other > 0 and other < one) then return other end
  return one
end

-- Here a lock's life starts, and here it gets its number.
local function granted(lock, life, now)
  lock.state, lock.created, lock.gen, lock.breaker = 'h', now, generation(now), ''
  lock.life = life.total >= 0 and now + life.total or 0
  lock.expires = earlier(life.span >= 0 and now + life.span or 0, lock.life)
  lock.span, lock.most = life.span, life.most
end
