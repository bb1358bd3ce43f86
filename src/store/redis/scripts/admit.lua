-- What a write touches, and what became of its tokens. It is registered unless a lock certainly refuses it.

if not now then now = clock(ARGV[1]) end
local lease, name, mode, limit, asker = unpackb('>dc16c1dI4c0', ARGV[2])
local targets = targets_of(ARGV[3])
local chain, digests, proven = ARGV[4], ARGV[5], ARGV[6]

if GUARDED then
  for first = 1, #ARGV[8], 16 do drop_write(sub(ARGV[8], first, first + 15), now) end
end
local head = call('HMGET', LOCKS, 'schema', 'generation')
if not stamped(head[1]) and GUARDED then call('HSET', LOCKS, 'schema', '1') end
fetch(chain)

local submitted, tokens = {}, {}
for first = 1, #digests, 16 do
  local digest = sub(digests, first, first + 15)
  local lock = by_token(digest)
  if lock and lock.state ~= 'p' and live(lock, now) then
    submitted[lock.id] = true
    tokens[#tokens + 1] = 'h' .. write(lock)
  elseif lock and lock.state ~= 'p' then
    local at, cause = by_itself(lock, now)
    tokens[#tokens + 1] = 'd' .. epitaph(now, at, cause, lock.id, lock.who, lock.key, lock.breaker)
  else
    local text = grave(digest, now)
    tokens[#tokens + 1] = text and 'd' .. text or '-'
  end
end

local decided = {}
for first = 1, #proven, 17 do decided[sub(proven, first + 1, first + 16)] = sub(proven, first, first) end

-- Whether the caller proves to hold it; nothing where only the application knows.
local function own(lock)
  if lock.state == 'p' or lock.kind == 'freeze' then return false end
  if mode == 'c' then
    if not decided[lock.id] then return nil end
    return decided[lock.id] == 'y'
  end
  if mode == 'p' then return lock.who == asker end
  return submitted[lock.id] and (mode == 't' or lock.who == asker) or false
end

local touched, seen, mine, vouching, hopeless, undecided, ended = {}, {}, {}, false, 0, false, {}
local function consider(lock)
  if not lock or seen[lock.id] then return false end
  if not live(lock, now) then
    ended[#ended + 1] = lock
    seen[lock.id] = true
    return GUARDED and #ended >= 1000
  end
  if not touches(lock, targets) then return false end
  seen[lock.id] = true
  touched[#touched + 1] = lock
  local answer = own(lock)
  if answer then
    mine[#mine + 1] = lock
    vouching = vouching or lock.scope == 's'
  elseif answer == nil then
    undecided = true
  elseif mode ~= 'c' and not (vouching and lock.scope == 's' and lock.kind ~= 'freeze') then
    hopeless = hopeless + 1
  end
  return hopeless > limit
end

-- Those that it may answer for first: of the others no more are needed than are named, and one.
for first = 1, #digests, 16 do
  local lock = by_token(sub(digests, first, first + 15))
  if lock and own(lock) then consider(lock) end
end
if mode == 'p' then
  for _, target in ipairs(targets) do
    if target.tree then
      local prefix = asker .. '\0' .. target.key
      local function each(member) consider(by_id(sub(member, -16))) end
      walk(OWNERS, '[' .. prefix .. '\0', '(' .. prefix .. '\1', each)
      walk(OWNERS, '[' .. prefix .. '/', '(' .. prefix .. '0', each)
    end
  end
end
local function here(each)
  for first = 1, #chain, 16 do
    for _, lock in ipairs(cell(sub(chain, first, first + 15))) do each(lock) end
  end
end
if mode == 'p' then here(function(lock) if own(lock) then consider(lock) end end) end
here(function(lock) if hopeless <= limit then consider(lock) end end)
for _, target in ipairs(targets) do
  if target.tree and hopeless <= limit then
    local function each(member) return consider(by_id(sub(member, -16))) end
    local low, high = '[' .. target.key .. '/', '(' .. target.key .. '0'
    if not walk(EXCLUSIVE, low, high, each) then walk(SHARED, low, high, each) end
  end
end

local refused = false
for _, lock in ipairs(touched) do
  if not own(lock) then
    local answered = false
    if lock.scope == 's' and lock.kind ~= 'freeze' then
      for _, other in ipairs(mine) do
        if other.scope == 's' and vouches(other, lock, targets) then answered = true break end
      end
    end
    refused = refused or not answered
  end
end

if GUARDED then
  for _, lock in ipairs(ended) do living(lock, now) end
end
local status = 'n'
if GUARDED and not refused and #ended >= 1000 then
  -- So many have ended that the rest is for another step.
  status = 'a'
elseif undecided then
  status = 'u'
elseif GUARDED and not refused then
  status = 'r'
  local record = { pack('>I4', #mine) }
  for _, target in ipairs(targets) do
    call('ZADD', POINTS, 0, target.key .. '\0p' .. name)
    if target.tree then call('ZADD', TREES, 0, target.key .. '\0' .. name) end
    if target.parent ~= '' then call('ZADD', POINTS, 0, target.parent .. '\0m' .. name) end
  end
  for _, lock in ipairs(mine) do
    record[#record + 1] = pack('>c16c16c1c1I4c0', lock.id, lock.place, lock.scope, lock.depth, #lock.key, lock.key)
    lock.pins, lock.pinned = lock.pins + 1, math.max(lock.pinned, now + lease)
    touch(lock)
    if lock.expires > 0 and lock.pinned > lock.expires then queue(lock) end
  end
  record[#record + 1] = ARGV[3]
  call('HSET', WRITES, name, table.concat(record))
  call('ZADD', LEASES, number(now + lease), name)
end
if GUARDED then settle(now) end

local reply = { status, number(now), head[2] or '0', #touched }
for _, lock in ipairs(touched) do reply[#reply + 1] = write(lock) end
for _, text in ipairs(tokens) do reply[#reply + 1] = text end
return reply
