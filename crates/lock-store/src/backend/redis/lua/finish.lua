-- Finish: removes a ticket wherever it stands, and calls the next; the queue
-- is deleted with its last ticket (rule 5).
--
-- KEYS  1 the queue
-- ARGV  1 the owner and a space; "# " for a ticket known by its number alone;
--         "! " for none: the step only sees after the head
--       2 the claim window in µs
--       3 the number on the ticket, or - if it is not known
--
-- Reply 1: it was the only one
--       {found, the owner that was called or "", length, expired, abandoned}

local first = call('LRANGE', KEYS[1], 0, 1)
local is_head = first[1] and string.sub(first[1], 1, #ARGV[1]) == ARGV[1]
-- What most finishes come to is done in two calls.
if is_head and not first[2] then
  call('DEL', KEYS[1])
  return 1
end
if not first[1] then
  return {0, '', 0, {}, {}}
end
local time = call('TIME')
local now_text = time[1] .. string.sub('00000' .. time[2], -6)

--@queue

local owner, found = string.sub(ARGV[1], 1, -2), 0
if is_head then
  found = 1
elseif owner ~= '!' then
  local index, element = find(owner, ARGV[3])
  if index then
    -- From the nearer end.
    local from = index * 2 < call('LLEN', key) and 1 or -1
    call('LREM', key, from, element)
    found = 1
  end
end
local head = settle(ARGV[2], is_head)
-- A second ticket of the same owner is there only if its request came twice.
while head and head.owner == owner do
  call('LPOP', key)
  called = false
  head = settle(ARGV[2])
end
tell_all(owner)
return {found, called or '', call('LLEN', key), expired, abandoned}
