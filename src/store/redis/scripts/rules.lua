-- The rules that a step of the server needs: what a write touches, who vouches, what is in an acquire's way.

-- What a write changes: `effect` w (one resource) or u (with all below), its key, and its parent's if that changes too.
local function targets_of(text, from)
  local count, at = unpackb('>I4', text, from or 1)
  local list = {}
  for n = 1, count do
    local effect, key, parent
    effect, key, parent, at = unpackb('>c1I4c0I4c0', text, at)
    list[n] = { tree = effect == 'u', key = key, parent = parent }
  end
  return list, at
end

local function touches(lock, targets)
  for _, target in ipairs(targets) do
    if covers(lock.key, lock.depth, target.key) or (target.tree and below(lock.key, target.key)) then return true end
    if target.parent ~= '' and covers(lock.key, lock.depth, target.parent) then return true end
  end
  return false
end

-- Whether `other` covers all that `first` covers of what is written.
local function vouches(other, first, targets)
  for _, target in ipairs(targets) do
    local key = target.key
    if covers(first.key, first.depth, key) then
      if not covers(other.key, other.depth, key) then return false end
      if target.tree and first.depth == 'i' and other.depth ~= 'i' then return false end
    elseif target.tree and below(first.key, key) then
      if not covers(other.key, other.depth, first.key) then return false end
      if first.depth == 'i' and other.depth ~= 'i' then return false end
    end
    local parent = target.parent
    if parent ~= '' and covers(first.key, first.depth, parent) and not covers(other.key, other.depth, parent) then return false end
  end
  return true
end
