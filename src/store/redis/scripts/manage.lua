-- Refreshes or ends one lock.

local now = clock(ARGV[1])
local verb, which, name, right, mode, amount, length, asker, covering, proven, breaker =
  unpackb('>c1c1c16c1c1c1dI4c0I4c0I4c0I4c0', ARGV[2])

stamp()
sweep(now, 64)

local function answer(...)
  settle(now)
  return { ... }
end

local lock = which == 't' and living(by_token(name), now) or which ~= 't' and living(by_id(name), now)

if not lock then
  if which ~= 't' then return answer('lost', '') end
  local text = lost(name, now)
  -- A token that was released without ever having been seen may not be used any more.
  if verb == 'e' and not text then remember(name, NOBODY, epitaph(now, now, 'u', NOBODY, asker, '', ''), now) end
  return answer('lost', text or '')
end

local may = true
if right == 'h' then
  may = lock.kind ~= 'freeze'
  if mode == 'c' then
    if sub(proven, 2) ~= lock.id then
      settle(now)
      return { 'ask', number(now), write(lock) }
    end
    may = may and sub(proven, 1, 1) == 'y'
  elseif mode == 'p' then
    may = may and lock.who == asker
  elseif mode == 't' then
    may = may and which == 't'
  else
    may = may and which == 't' and lock.who == asker
  end
elseif right == 'p' then
  may = lock.who == asker and lock.kind ~= 'freeze'
end
if not may then return answer('stranger') end
if covering ~= '' and not covers(lock.key, lock.depth, covering) then return answer('elsewhere', number(now), write(lock)) end

if verb == 'e' then
  if right == 'b' and length > 0 and lock.state ~= 'p' then
    -- Who breaks it a second time may shorten the grace, and never lengthens it.
    lock.life = lock.life == 0 and now + length or math.min(lock.life, now + length)
    lock.expires = lock.expires == 0 and lock.life or math.min(lock.expires, lock.life)
    lock.state, lock.breaker = 'b', breaker
    touch(lock)
    queue(lock)
    tell('b', lock, now, 'b', breaker)
    return answer('breaking', number(now), write(lock))
  end
  local text = write(lock)
  bury(lock, now, right == 'b' and 'b' or 'r', right == 'b' and breaker or '')
  return answer('ended', number(now), text)
end

-- The token of a mark answers for nothing before the grant.
if lock.state == 'p' then return answer('lost', '') end
if lock.state == 'b' then return answer('lost', lost(lock.digest, now)) end
-- As long as it was last given, so long, or without an end; at most what it was granted as the most.
local wanted = lock.span
if amount == 'f' then wanted = length elseif amount == 'e' then wanted = -1 end
if lock.most >= 0 and (wanted < 0 or wanted > lock.most) then wanted = lock.most end
lock.span = wanted
lock.expires = wanted >= 0 and now + wanted or 0
if lock.life > 0 and (lock.expires == 0 or lock.expires > lock.life) then lock.expires = lock.life end
local last = lock.life > 0 and lock.expires == lock.life
touch(lock)
queue(lock)
tell('r', lock, now)
return answer('refreshed', number(now), last and 'y' or 'n', write(lock))
