-- Claim: starts or extends the lease of the head; tells anybody else where
-- their ticket stands (rule 4).
--
-- KEYS  1 the queue
-- ARGV  1 the owner   2 the lifetime in µs   3 the claim window in µs
--       4 the number on the ticket, or - if it is not known
--
-- Reply {0, number, token, expired, abandoned}: served, the lease runs anew
--       {1, ahead, µs until the head dies, expired, abandoned}: waiting
--       {2, expired, abandoned}: gone

local time = call('TIME')
local now_text = time[1] .. string.sub('00000' .. time[2], -6)

--@queue

local owner, lifetime = ARGV[1], ARGV[2]
local head = settle(ARGV[3])
if head and head.owner == owner then
  head.lifetime, head.span, head.since, head.state = lifetime, lifetime, now_text, 'C'
  call('LSET', key, 0, write(head))
  live_for(lifetime, call('LLEN', key) == 1)
  tell_all(owner)
  return {0, head.number, head.token, expired, abandoned}
end
local index = head and find(owner, ARGV[4])
tell_all(owner)
if index then
  return {1, index, head.dies - now, expired, abandoned}
end
return {2, expired, abandoned}
