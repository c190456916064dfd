-- Finish: removes a ticket wherever it stands, and calls the next; the queue
-- is deleted with its last ticket (rule 5).
--
-- KEYS  1 the queue
-- ARGV  1 the owner and a space; "# " for a ticket known by its number alone;
--         "! " for none: the step only drops dead heads
--       2 the claim window in µs
--       3 the number on the ticket, or - if it is not known
--       4 what the channels of this conversation begin with
--       5 the number of the first ticket of this client that was finished
--         before it, and of which this server may not know yet; - if there is
--         none (rule 8)
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
--@now
local channel = ARGV[4]
--@queue
local owner, found, dead = string.sub(ARGV[1], 1, -2), 0, 0
if ARGV[5] ~= '-' then
  -- Those that were finished before stand at the head, one after the other. A
  -- ticket of a later queue may have such a number, too; each lock is handed over
  -- to a ticket of a higher sequence.
  local from, to, client = tonumber(ARGV[5]), tonumber(ARGV[3]), string.sub(owner, 1, 17)
  local sequence = tonumber(string.sub(owner, 18))
  for _, element in ipairs(call('LRANGE', key, 0, to - from)) do
    local ticket = string.sub(element, 1, 17) == client and read(element)
    if ticket and ticket.owner == owner then
      found, dead = 1, dead + 1
      break
    end
    if not ticket or tonumber(string.sub(ticket.owner, 18)) >= sequence
      or ticket.number < from or ticket.number >= to then
      break
    end
    dead = dead + 1
  end
elseif is_head then
  found, dead = 1, 1
end
if found == 0 and owner ~= '!' then
  local index, element = find(owner, ARGV[3])
  if index and index == dead then
    found, dead = 1, dead + 1
  elseif index then
    -- From the nearer end.
    local from = index * 2 < call('LLEN', key) and 1 or -1
    call('LREM', key, from, element)
    found = 1
  end
end
local head = settle(ARGV[2], dead)
-- A second ticket of the same owner is there only if its request came twice.
while head and head.owner == owner do
  called = false
  head = settle(ARGV[2], 1)
end
tell_all(owner)
return {found, called or '', head and call('LLEN', key) or 0, expired, abandoned}
