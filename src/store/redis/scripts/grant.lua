-- Whether the marks of an acquire can be granted, are over, or wait on.

local now = clock(ARGV[1])
local span, most, total, within, asked, drain, ids = unpackb('>dddc16c16dI4c0', ARGV[2])
local life = { span = span, most = most, total = total }

stamp()

local marks, stands, gone = {}, true, {}
for first = 1, #ids, 16 do
  local id = sub(ids, first, first + 15)
  local mark = living(by_id(id), now)
  if mark and mark.state == 'p' and mark.breaker == asked then
    marks[#marks + 1] = mark
  else
    stands = false
    local digest = call('HGET', DEAD_IDS, id)
    local text = digest and grave(digest, now)
    if text then gone[#gone + 1] = text end
  end
end

if not stands then
  for _, mark in ipairs(marks) do
    unlink(mark)
    -- They were given back, all of them; or else their time is up.
    if #gone == 0 then cool(mark, now) end
  end
  settle(now)
  if #gone > 0 then return { 'lost', unpack(gone) } end
  return { 'busy', number(math.max(2 * drain, 1)) }
end
if met(marks, within, now) then
  settle(now)
  return { 'wait' }
end
-- What only one may replace has to be there still.
for at = 3, #ARGV do
  local how, name = unpackb('>c1c16', ARGV[at])
  local lock = how == 'o' and living(by_id(name), now)
  if how == 'o' and (not lock or lock.state ~= 'h') then
    for _, mark in ipairs(marks) do unlink(mark) end
    settle(now)
    return { 'lost', '' }
  end
end
for at = 3, #ARGV do
  local how, name, breaker = unpackb('>c1c16I4c0', ARGV[at])
  local held = how == 'h'
  local lock = living(held and by_token(name) or not held and by_id(name), now)
  -- It may have ended while the marks waited, and then needs no end.
  if lock and lock.state ~= 'p' then bury(lock, now, how == 'b' and 'b' or 'p', breaker) end
end
local reply = { 'granted', number(now) }
for _, mark in ipairs(marks) do
  granted(mark, life, now)
  queue(mark)
  touch(mark)
  tell('g', mark, now)
  reply[#reply + 1] = write(mark)
end
settle(now)
return reply
