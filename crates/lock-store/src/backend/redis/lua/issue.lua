-- Issue: puts a ticket at the end of the queue; in an empty queue it is served
-- at once (rule 1).
--
-- KEYS  1 the queue
-- ARGV  1 the begin of its element, if it is served at once:
--         "<owner> <lifetime> <lifetime> 0 "
--       2 its time to live then, in ms
--       3 until when this may be done, by this server's clock in µs: a request
--         that was given up must not leave a ticket behind
--       4 "<wait timeout> <claim window> <queue> <repeated>", in µs, and 0 or 1
--
-- Reply a text: served, with this token and the number 0
--       {0, number, token, expired, abandoned}: served
--       {1, number, token, ahead, µs until the head dies, expired, abandoned}
--       {2, expired, abandoned}: somebody is there, and it was not to queue
--       {3, now}: too late

local time = call('TIME')
local now_text = time[1] .. string.sub('00000' .. time[2], -6)
if now_text > ARGV[3] then
  return {3, now_text}
end
-- What most issues come to is done in three calls.
if call('RPUSH', KEYS[1], ARGV[1] .. now_text .. ' ' .. now_text .. ' C') == 1 then
  call('PEXPIRE', KEYS[1], ARGV[2])
  return now_text
end
-- Others are there: back again, and in order.
call('RPOP', KEYS[1])

--@queue

local owner, lifetime = string.match(ARGV[1], '^(%S+) (%d+)')
local wait, window, queue, repeated = string.match(ARGV[4], '^(%d+) (%d+) (%d) (%d)$')
local last, followed = at(-1), call('LLEN', key) == 1
local head = settle(window)

if repeated == '1' and head then
  local index, element = find(owner, '-')
  if index then
    local ticket = read(element)
    if index == 0 then
      ticket.state, ticket.since, ticket.span = 'C', now_text, lifetime
      call('LSET', key, 0, write(ticket))
      live_for(lifetime, call('LLEN', key) == 1)
      tell_all(owner)
      return {0, ticket.number, ticket.token, expired, abandoned}
    end
    tell_all(owner)
    return {1, ticket.number, ticket.token, index, head.dies - now, expired, abandoned}
  end
end

if head and queue == '0' then
  tell_all(owner)
  return {2, expired, abandoned}
end

local ticket = {
  owner = owner, lifetime = lifetime, span = wait, number = 0, token = now_text,
  since = now_text, state = 'W',
}
if not head then
  ticket.span, ticket.state = lifetime, 'C'
  call('RPUSH', key, write(ticket))
  live_for(lifetime, true)
  tell_all(owner)
  return {0, 0, now_text, expired, abandoned}
end
if #expired + #abandoned > 0 then
  last, followed = at(-1), call('LLEN', key) == 1
end
ticket.number = last.number + 1
if tonumber(last.token) >= now then
  ticket.token = string.format('%.0f', tonumber(last.token) + 1)
end
local length = call('RPUSH', key, write(ticket))
live_for(wait, false)
tell_all(owner)
-- A head that was served at once, as its token and its lease still show, may be
-- removed by its element alone, and then nobody is called. From now on it
-- cannot; its owner is told, to save it the attempt.
if followed and head.state == 'C' and head.since == head.token then
  head.state = 'F'
  call('LSET', key, 0, write(head))
  tell('follow', head.owner)
end
return {1, ticket.number, ticket.token, length - 1, head.dies - now, expired, abandoned}
