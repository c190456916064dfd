-- Delete: removes the whole queue and tells its owners.
--
-- KEYS  1 the queue
-- ARGV  1 what the channels of this conversation begin with
--
-- Reply 1 if there was one, else 0

local now_text, channel = '0', ARGV[1]

--@queue

-- Deleting is how damage is repaired: a value of another type has nobody to be
-- told, nor has a damaged element.
local elements = try('LRANGE', key, 0, -1)
local found = call('DEL', key)
for _, element in ipairs(elements) do
  local owner = string.match(element, '^(%x+%.%d+) ')
  if owner then
    tell('gone', owner)
  end
end
return found
