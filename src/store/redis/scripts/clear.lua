-- Ends the granted locks whose resources are gone. Marks are spared.

local now = clock(ARGV[1])
stamp()
sweep(now, 64)

local count, more = 0, false
local function take(id)
  local lock = living(by_id(id), now)
  if lock and lock.state ~= 'p' then
    bury(lock, now, 'g')
    count = count + 1
  end
  more = buried >= 1000
  return more
end
if ARGV[2] ~= '' then
  local lease = call('ZSCORE', LEASES, ARGV[2])
  if not lease or tonumber(lease) <= now then return { 'done', 0 } end
end
for at = 3, #ARGV do
  local reach, key = unpackb('>c1I4c0', ARGV[at])
  local function each(member) return take(sub(member, -16)) end
  for _, name in ipairs({ EXCLUSIVE, SHARED }) do
    if reach ~= 'b' and not more then walk(name, '[' .. key .. '\0', '(' .. key .. '\1', each) end
    if reach ~= 'a' and not more then walk(name, '[' .. key .. '/', '(' .. key .. '0', each) end
  end
end
settle(now)
return { more and 'again' or 'done', count }
