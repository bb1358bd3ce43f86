-- Writes that have ended.

local now = clock(ARGV[1])
stamp()
for first = 1, #ARGV[2], 16 do drop_write(sub(ARGV[2], first, first + 15), now) end
settle(now)
return { 'done' }
