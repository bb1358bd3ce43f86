-- Locks that fit, in the order of their roots and ids as far as one index goes.

local now = clock(ARGV[1])
local select, age, limit, owned, kind = unpackb('>c1ddI4c0I4c0', ARGV[2])
stamped(call('HGET', LOCKS, 'schema'))

local function fits(lock)
  return lock and live(lock, now) and (owned == '' or lock.who == sub(owned, 2)) and (kind == '' or lock.kind == sub(kind, 2))
    and (age < 0 or now - lock.created >= age)
end

local reply = { number(now) }
if select == 'i' then
  local lock = by_id(ARGV[3])
  if fits(lock) then reply[2] = write(lock) end
  return reply
end
if select == 'c' then
  fetch(ARGV[3])
  for first = 1, #ARGV[3], 16 do
    for _, lock in ipairs(cell(sub(ARGV[3], first, first + 15))) do
      if covers(lock.key, lock.depth, ARGV[4]) and fits(lock) then reply[#reply + 1] = write(lock) end
    end
  end
  return reply
end

-- Indexes, each with two ranges: at the root and below it; no bounds, no range. For each is answered in which range and
-- at which member it stopped (an empty one when it is through), how many were found, and these.
local indexes, looked = { x = EXCLUSIVE, s = SHARED, o = OWNERS }, 0
for at = 3, #ARGV, 5 do
  local found, stop, head = 0, '', #reply + 1
  reply[head], reply[head + 1] = '', 0
  for range = 1, 2 do
    local low, high = ARGV[at + range * 2 - 1], ARGV[at + range * 2]
    local function each(member)
      looked = looked + 1
      local lock = by_id(sub(member, -16))
      if fits(lock) then
        found = found + 1
        reply[#reply + 1] = write(lock)
      end
      -- A bounded step: the rest is for another.
      if found > limit or looked >= 5000 then stop = range .. member end
      return stop ~= ''
    end
    if low ~= '' and walk(indexes[ARGV[at]], low, high, each) then break end
  end
  reply[head], reply[head + 1] = stop, found
end
return reply
