-- Claim: starts or extends the lease of the head; tells any other owner where
-- its ticket stands (rule 4).
--
-- KEYS  1 the queue
-- ARGV  1 the owner   2 the lifetime in µs
--       3 until when this may be done, by this server's clock in µs: an
--         extension that comes late must not undo a later one
--       4 what the channels of this conversation begin with
--       5 the claim window in µs
--       6 the number on the ticket, or - if it is not known
--
-- Reply {0, number, token, now, expired, abandoned}: served, the lease runs anew
--       {1, ahead, µs until the head dies, expired, abandoned}: waiting
--       {2, expired, abandoned}: gone
--       {3, now}: too late
--@now
if now_text > ARGV[3] then
  return {3, now_text}
end
local channel = ARGV[4]
--@queue
local owner = ARGV[1]
local head = settle(ARGV[5])
if head and head.owner == owner then
  lease(head, ARGV[2])
  tell_all(owner)
  return {0, head.number, head.token, now_text, expired, abandoned}
end
local index = head and find(owner, ARGV[6])
tell_all(owner)
if index then
  return {1, index, head.dies - now, expired, abandoned}
end
return {2, expired, abandoned}
