-- Delete: removes the whole queue and tells its owners.
--
-- KEYS  1 the queue
--
-- Reply 1 if there was one, else 0

local now_text = '0'

--@queue

local elements = call('LRANGE', key, 0, -1)
call('DEL', key)
for _, element in ipairs(elements) do
  -- A damaged one has no owner to be told; deleting is how it is repaired.
  local owner = string.match(element, '^(%x+%.%d+) ')
  if owner then
    tell('gone', owner)
  end
end
return #elements > 0 and 1 or 0
