-- Advance: removes the tickets that were finished within one process, and
-- claims the next of that process, which its holder already has (rule 8). If
-- that one is not there any more, the finished ticket stays: until its lease
-- ends or its holder has let go, nobody else is served.
--
-- KEYS  1 the queue
-- ARGV  1 the owner of the ticket to claim   2 its lifetime in µs
--       3 until when this may be done, by this server's clock in µs
--       4 what the channels of this conversation begin with
--       5 the claim window in µs   6 the number on the ticket
--
-- Reply as that of claim
--@now
if now_text > ARGV[3] then
  return {3, now_text}
end
local channel = ARGV[4]
--@queue
local owner = ARGV[1]
local index, element = find(owner, ARGV[6])
if not index then
  return {2, expired, abandoned}
end
local client = string.sub(owner, 1, 17)
for _, before in ipairs(index > 0 and call('LRANGE', key, 0, index - 1) or {}) do
  if string.sub(before, 1, 17) ~= client then
    -- The queue is another one by now.
    local head = settle(ARGV[5])
    if head and head.owner == owner then
      lease(head, ARGV[2])
      tell_all(owner)
      return {0, head.number, head.token, now_text, expired, abandoned}
    end
    index = head and find(owner, ARGV[6])
    tell_all(owner)
    if not index then
      return {2, expired, abandoned}
    end
    return {1, index, head.dies - now, expired, abandoned}
  end
end
if index > 0 then
  call('LPOP', key, index)
end
local ticket = read(element)
lease(ticket, ARGV[2])
return {0, ticket.number, ticket.token, now_text, expired, abandoned}
