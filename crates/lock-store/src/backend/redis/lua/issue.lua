-- Issue: puts a ticket at the end of the queue; in an empty queue it is served
-- at once (rule 1).
--
-- KEYS  1 the queue
-- ARGV  1 the begin of its element, if it is served at once:
--         "<owner> <lifetime> <lifetime> 0 "
--       2 its time to live then, in ms; with a "-" before it, if the ticket is
--         only wanted in an empty queue; "" for a request that may have been
--         done before, or that wants a token above this server's clock
--       3 until when this may be done, by this server's clock in µs: a request
--         that was given up must not leave a ticket behind
--       4 what the channels of this conversation begin with
--       5 "<wait timeout> <claim window> <queue> <repeated> <least token>": in µs,
--         0 or 1, and a token or nothing
--
-- Reply a text: served, with this token and the number 0
--       {0, number, token, expired, abandoned}: served
--       {1, number, token, ahead, µs until the head dies, the token of the ticket
--         right before it, expired, abandoned}
--       {2, expired, abandoned}: taken, and it was not to queue
--       {3, now}: too late
--@now
if now_text > ARGV[3] then
  return {3, now_text}
end
-- What most issues come to takes three calls. RPUSH comes first: it is what a
-- full server refuses, and then nothing was changed.
local ttl = ARGV[2]
if string.byte(ttl) == 45 then
  ttl = call('LLEN', KEYS[1]) == 0 and string.sub(ttl, 2) or ''
end
if ttl ~= '' then
  if call('RPUSH', KEYS[1], ARGV[1] .. now_text .. ' ' .. now_text .. ' C') == 1 then
    call('PEXPIRE', KEYS[1], ttl)
    return now_text
  end
  -- Others are there: back again, and in order.
  call('RPOP', KEYS[1])
end
local channel = ARGV[4]
--@queue
local owner, lifetime = string.match(ARGV[1], '^(%S+) (%d+)')
local wait, window, queue, repeated, least =
  string.match(ARGV[5], '^(%d+) (%d+) (%d) (%d) (%d*)$')
local function at_least(token)
  return least ~= '' and tonumber(least) > tonumber(token) and least or token
end
local last, followed = at(-1), call('LLEN', key) == 1
local head = settle(window)
if repeated == '1' and head then
  local index, element = find(owner, '-')
  if index then
    local ticket = read(element)
    if index == 0 then
      lease(ticket, lifetime)
      tell_all(owner)
      return {0, ticket.number, ticket.token, expired, abandoned}
    end
    local behind = at(index - 1)
    tell_all(owner)
    return {1, ticket.number, ticket.token, index, head.dies - now, behind.token, expired, abandoned}
  end
end
if head and queue == '0' then
  tell_all(owner)
  return {2, expired, abandoned}
end
local ticket = {
  owner = owner, lifetime = lifetime, span = wait, number = 0, token = at_least(now_text),
  since = now_text, state = 'W',
}
if not head then
  ticket.span, ticket.state = lifetime, 'C'
  call('RPUSH', key, write(ticket))
  live_for(lifetime, true)
  tell_all(owner)
  return {0, 0, ticket.token, expired, abandoned}
end
if #expired + #abandoned > 0 then
  last, followed = at(-1), call('LLEN', key) == 1
end
ticket.number = last.number + 1
if tonumber(last.token) >= tonumber(ticket.token) then
  ticket.token = string.format('%.0f', tonumber(last.token) + 1)
end
local length = call('RPUSH', key, write(ticket))
live_for(wait, false)
tell_all(owner)
-- A head that was served at once, as its token and its lease still show, may be
-- removed by its element alone, and then no owner is called. From now on it
-- cannot; its owner is told, to save it the attempt.
if followed and head.state == 'C' and head.since == head.token then
  head.state = 'F'
  call('LSET', key, 0, write(head))
  tell('follow', head.owner)
end
return {1, ticket.number, ticket.token, length - 1, head.dies - now, last.token, expired, abandoned}
