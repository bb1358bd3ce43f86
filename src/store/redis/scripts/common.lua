-- What every script knows: the clock, and how locks are written down.
--
-- Times and numbers are doubles of whole microseconds, exact up to 2^53. Strings are never compared by < or >: the
-- server does that by its locale.

local HOUR = 3600000000

local function number(n) return format('%.0f', n) end

-- Microseconds by the server's clock, moved by an offset. Tests give the time itself, after an equals sign.
local function clock(text)
  if sub(text, 1, 1) == '=' then return tonumber(sub(text, 2)) end
  local time = call('TIME')
  return time[1] * 1000000 + time[2] + tonumber(text)
end

-- A key (namespace, NUL, path; the root's path is empty) and what lies below it.
local function below(key, root)
  local length = #root
  return #key > length and string.byte(key, length + 1) == 47 and sub(key, 1, length) == root
end

local function covers(root, depth, key) return root == key or (depth == 'i' and below(key, root)) end

local HEAD = '>c1c1c1c1ddddddddc16c16I4c0I4c0I4c0I4c0I4c0'

-- A lock or mark. Of a mark, `gen` is how long its acquire waits, and `breaker` which acquire set it: the same may be asked
-- again, word for word, while something of the first is under way still. Zero is no end, less than zero no span.
local function read(text, place)
  local state, scope, depth, form, created, expires, life, span, most, gen, pinned, pins, id, digest, key, who, kind, parts, breaker =
    unpackb(HEAD, text)
  if form ~= '1' then error({ err = 'TOWERLOCK a lock was written in another form' }) end
  return {
    state = state, scope = scope, depth = depth, created = created, expires = expires, life = life, span = span,
    most = most, gen = gen, pinned = pinned, pins = pins, id = id, digest = digest, key = key, who = who, kind = kind,
    parts = parts, breaker = breaker, place = place, text = text,
  }
end

-- Written anew only after it has changed.
local function write(lock)
  local text = lock.text
  if not text then
    text = pack(
      HEAD, lock.state, lock.scope, lock.depth, '1', lock.created, lock.expires, lock.life, lock.span, lock.most, lock.gen,
      lock.pinned, lock.pins, lock.id, lock.digest, #lock.key, lock.key, #lock.who, lock.who, #lock.kind, lock.kind,
      #lock.parts, lock.parts, #lock.breaker, lock.breaker
    )
    lock.text = text
  end
  return text
end

-- Whether it counts.
local function live(lock, now)
  if lock.life > 0 and now >= lock.life then return false end
  return lock.expires == 0 or now < lock.expires or (lock.pins > 0 and now < lock.pinned)
end

-- The places that this script has looked at: each a list of the locks rooted there.
local cells = {}

local function parse(place, text)
  local list, at = {}, 1
  while at <= #text do
    local one
    one, at = unpackb('>I4c0', text, at)
    list[#list + 1] = read(one, place)
  end
  return list
end

local function cell(place)
  local list = cells[place]
  if not list then
    local text = call('HGET', LOCKS, place)
    list = text and parse(place, text) or {}
    cells[place] = list
  end
  return list
end

local function at_place(place, id)
  for _, lock in ipairs(cell(place)) do
    if lock.id == id then return lock end
  end
end

local function by_id(id)
  local place = call('HGET', IDS, id)
  return place and at_place(place, id)
end

local function by_token(digest)
  local where = call('HGET', TOKENS, digest)
  return where and at_place(sub(where, 1, 16), sub(where, 17))
end

-- Reads many places at once. `places` is their hashes, one after the other.
local function fetch(places)
  local count = #places / 16
  for first = 1, count, 1000 do
    local fields, last = {}, math.min(first + 999, count)
    for at = first, last do fields[#fields + 1] = sub(places, at * 16 - 15, at * 16) end
    local texts = call('HMGET', LOCKS, unpack(fields))
    for at, place in ipairs(fields) do
      if not cells[place] then cells[place] = texts[at] and parse(place, texts[at]) or {} end
    end
  end
end

local function stamped(version)
  if version == '1' then return true end
  if version then error({ err = 'TOWERLOCK the store was written in form ' .. version .. ', this release reads 1' }) end
  if call('HLEN', LOCKS) > 0 then error({ err = 'TOWERLOCK the keys hold something else' }) end
  return false
end

-- The index that a lock stands in, and its member there.
local function index(lock) return lock.scope == 'x' and EXCLUSIVE or SHARED, lock.key .. '\0' .. lock.id end

-- A page of an index of members `prefix key NUL id`, from `low` on: the last 16 bytes of each are the id.
local function page(name, low, high) return call('ZRANGEBYLEX', name, low, high, 'LIMIT', 0, 100) end

-- Calls `each(member)` for all between two bounds until it answers true.
local function walk(name, low, high, each)
  while true do
    local members = page(name, low, high)
    for _, member in ipairs(members) do
      if each(member) then return true end
    end
    if #members < 100 then return false end
    low = '(' .. members[#members]
  end
end

-- What is remembered of a token, and only for an hour.
local function grave(digest, now)
  local text = call('HGET', DEAD, digest)
  if text and now - unpackb('>d', text) < HOUR then return text end
end

-- What is remembered of a lock: when it was buried, when it ended, why, its id, whose it was, its root, who ended it.
local function epitaph(now, at, cause, id, who, key, breaker)
  return pack('>ddc1c16I4c0I4c0I4c0', now, at, cause, id, #who, who, #key, key, #breaker, breaker)
end

-- How a lock that is not buried yet ended by itself, or will.
local function by_itself(lock, now)
  if lock.state == 'b' then return lock.life, 'b' end
  local at = lock.expires
  if at == 0 or (lock.life > 0 and lock.life < at) then at = lock.life end
  return at > 0 and at or now, 'e'
end
