-- Put: replaces the whole queue; an empty one deletes it. Owners whose tickets
-- are no longer there are told.
--
-- KEYS  1 the queue
-- ARGV  1 the claim window in µs
--       2 what the channels of this conversation begin with
--       3… the elements, head first
--
-- Reply {expired, abandoned}

--@now
local channel = ARGV[2]

--@queue

local before, after, longest = call('LRANGE', key, 0, -1), {}, 0
for i = 3, #ARGV do
  after[i - 2] = ARGV[i]
  longest = math.max(longest, read(ARGV[i]).dies - now)
end
replace(#before, after)
if #ARGV > 2 then
  live_for(math.max(longest, 1000), true)
end
local head = #ARGV > 2 and settle(ARGV[1])
local kept = {}
for _, element in ipairs(head and call('LRANGE', key, 0, -1) or {}) do
  kept[read(element).owner] = true
end
for _, element in ipairs(before) do
  local owner = string.match(element, '^(%x+%.%d+) ')
  if owner and not kept[owner] then
    tell('gone', owner)
  end
end
tell_all('')
return {expired, abandoned}
