-- Grants all the locks asked for, or none, or sets marks where writes are in flight.

local now = clock(ARGV[1])
local span, most, total, drain, per_owner, per_store, limit, mode, selfish, within, asked, count, swaps, asker =
  unpackb('>dddddddc1c1c16c16I4I4I4c0', ARGV[2])
local life = { span = span, most = most, total = total }
-- Locks to be replaced for which a proof of the application's own was given, as ids one after the other.
local proven = ARGV[3]

stamp()
sweep(now, 64)

local all = {}
for at = 1, count do
  local scope, depth, id, digest, place, key, who, kind, parts, chain =
    unpackb('>c1c1c16c16c16I4c0I4c0I4c0I4c0I4c0', ARGV[3 + at])
  all[at] = {
    scope = scope, depth = depth, id = id, digest = digest, place = place, key = key, who = who, kind = kind,
    parts = parts, chain = chain, breaker = '', state = 'p', created = now, expires = now + drain, life = 0, span = span,
    most = most, gen = drain, pinned = 0, pins = 0,
  }
end

local function answer(...)
  settle(now)
  return { ... }
end

local function shown(status, locks, ...)
  settle(now)
  local reply = { status, number(now), ... }
  for _, lock in ipairs(locks) do reply[#reply + 1] = write(lock) end
  return reply
end

-- What the proposed tokens and ids alone decide.
local repeated, gone, taken, pending, proposed = {}, {}, false, false, {}
for _, new in ipairs(all) do
  local lock = living(by_token(new.digest), now)
  if lock and lock.who == new.who and lock.key == new.key and lock.scope == new.scope and lock.depth == new.depth then
    pending = pending or lock.state == 'p'
    if proposed[lock.id] then taken = true end
    proposed[lock.id] = true
    repeated[#repeated + 1] = lock
  else
    if lock then
      taken = true
    else
      local text = grave(new.digest, now)
      if text then gone[#gone + 1] = text end
    end
    if living(by_id(new.id), now) then taken = true end
    local digest = call('HGET', DEAD_IDS, new.id)
    if #gone == 0 and digest and grave(digest, now) then gone[1] = '' end
    if proposed[new.digest] or proposed[new.id] then taken = true end
    proposed[new.digest], proposed[new.id] = true, true
  end
end
if #gone > 0 then return answer('lost', unpack(gone)) end
if taken or (#repeated > 0 and #repeated ~= count) then return answer('taken') end
if #repeated > 0 then
  if pending then return answer('busy', '1000000') end
  return shown('repeated', repeated)
end

-- The locks to be replaced, if the caller may replace them.
local replaced, spared = {}, {}
for at = 1, swaps do
  local how, name, breaker = unpackb('>c1c16I4c0', ARGV[3 + count + at])
  local lock
  if how == 'h' then
    lock = living(by_token(name), now)
    if not lock or lock.state ~= 'h' then return answer('lost', lost(name, now) or '') end
    local holds = lock.kind ~= 'freeze'
    if mode == 'c' then
      local known
      for first = 1, #proven, 17 do
        if sub(proven, first + 1, first + 16) == lock.id then known = sub(proven, first, first) end
      end
      if not known then return shown('ask', { lock }) end
      holds = holds and known == 'y'
    elseif mode ~= 't' then
      holds = holds and lock.who == asker
    end
    if not holds then return answer('stranger') end
  elseif how == 'o' then
    lock = living(by_id(name), now)
    if not lock or lock.state ~= 'h' then return answer('lost', '') end
    if asker == '' or lock.who ~= asker or lock.kind == 'freeze' then return answer('stranger') end
  else
    lock = living(by_id(name), now)
    if not lock or lock.state == 'p' then return answer('lost', '') end
  end
  spared[lock.id] = true
  replaced[#replaced + 1] = { lock = lock, cause = how == 'b' and 'b' or 'p', breaker = breaker }
end

-- The locks and marks in the way. Ended ones are buried: a clock that steps back must not revive them.
local blockers, seen = {}, {}
local function consider(lock)
  if not lock or spared[lock.id] or seen[lock.id] then return false end
  if living(lock, now) then
    seen[lock.id] = true
    blockers[#blockers + 1] = lock
  end
  return #blockers > limit
end
for _, new in ipairs(all) do
  fetch(new.chain)
  for first = 1, #new.chain, 16 do
    local list = {}
    for at, lock in ipairs(cell(sub(new.chain, first, first + 15))) do list[at] = lock end
    for _, lock in ipairs(list) do
      local overlap = covers(lock.key, lock.depth, new.key) or covers(new.key, new.depth, lock.key)
      if overlap and (lock.scope == 'x' or new.scope == 'x') and #blockers <= limit then consider(lock) end
    end
  end
  if new.depth == 'i' and #blockers <= limit then
    local low, high = '[' .. new.key .. '/', '(' .. new.key .. '0'
    local function each(member)
      if buried >= 1000 and #blockers == 0 then return true end
      return consider(by_id(sub(member, -16)))
    end
    walk(EXCLUSIVE, low, high, each)
    if new.scope == 'x' and #blockers <= limit then walk(SHARED, low, high, each) end
    -- So many have ended that the rest is for another step.
    if buried >= 1000 and #blockers == 0 then return answer('again') end
  end
end
if #blockers > 0 or selfish == 'y' then
  local cut = #blockers > limit
  while #blockers > limit do table.remove(blockers) end
  return shown('conflict', blockers, cut and 'y' or 'n')
end

-- Quotas. Marks count, locks to be replaced do not, nor what has ended.
local who = all[1] and all[1].who or ''
local low, high = '[' .. who .. '\0', '(' .. who .. '\1'
local mine, others = 0, 0
for id in pairs(spared) do
  others = others + 1
  if by_id(id).who == who then mine = mine + 1 end
end
-- Where all together are few enough, nobody's have to be counted.
local several = call('ZCARD', ENDS) + count
if several > per_owner and call('ZLEXCOUNT', OWNERS, low, high) - mine + count > per_owner then
  walk(OWNERS, low, high, function(member)
    local id = sub(member, -16)
    local score = call('ZSCORE', ENDS, id)
    if score and tonumber(score) <= now then living(by_id(id), now) end
    return buried >= 1000
  end)
  if call('ZLEXCOUNT', OWNERS, low, high) - mine + count > per_owner then
    if buried >= 1000 then return answer('again') end
    return answer('quota', 'p')
  end
end
if several > per_store and call('ZCOUNT', ENDS, '(' .. number(now), '+inf') - others + count > per_store then return answer('quota', 's') end

if met(all, within, now) then
  call('ZREMRANGEBYSCORE', COOLING, '-inf', number(now))
  local cooling = 0
  if call('ZCARD', COOLING) > 0 then
    local entries = call('ZRANGE', COOLING, 0, -1, 'WITHSCORES')
    for at = 1, #entries, 2 do
      local depth, key = sub(entries[at], 1, 1), sub(entries[at], 2)
      for _, new in ipairs(all) do
        if covers(key, depth, new.key) or covers(new.key, new.depth, key) then
          cooling = math.max(cooling, tonumber(entries[at + 1]))
        end
      end
    end
  end
  if cooling > 0 or drain <= 0 then return answer('busy', number(math.max(cooling - now, 1000000))) end
  for _, new in ipairs(all) do
    new.breaker = asked
    link(new)
  end
  return answer('wait', number(now))
end

for _, old in ipairs(replaced) do
  -- Named twice, it is gone already.
  if at_place(old.lock.place, old.lock.id) then bury(old.lock, now, old.cause, old.breaker) end
end
for _, new in ipairs(all) do
  granted(new, life, now)
  link(new)
  tell('g', new, now)
end
return shown('granted', all)
