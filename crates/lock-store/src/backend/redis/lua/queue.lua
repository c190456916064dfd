-- The queue of a conversation, for all steps: a list with one element for
-- each ticket, head first:
--
--   <owner> <lifetime> <span> <number> <token> <since> <state>
--
-- It dies at since + span. Times are whole microseconds, `since` by this
-- server's clock. The state is W(aiting), P(romoted), C(laimed), or F(ollowed):
-- claimed, and somebody waits behind it; the owner is <client>.<sequence>, or -
-- for a ticket that is known by its number alone.
-- Only the head ever changes, so that a step costs the same however many wait.
-- A step does not touch the key again once it is empty: in a cluster the slot may
-- be moving to another node, and then a key that is not there is not ours.

local key = KEYS[1]
local now = tonumber(now_text)

-- Elements that this step dropped, the owner that it called, and who is told to
-- check whether that one answers.
local expired, abandoned, called, watchers, watch_for = {}, {}, false, {}, '0'

local function read(element)
  local owner, lifetime, span, number, token, since, state = string.match(element,
    '^(%-?%x*%.?%d*) (%d+) (%d+) (%d+) (%d+) (%d+) ([WPCF])$')
  if not owner or owner ~= '-' and not string.find(owner, '^%.%d+$', 17) then
    -- A reply that is no UTF-8 would be taken for none.
    error('DAMAGED ' .. (string.gsub(string.sub(element, 1, 200), '[^\32-\126]', '?')))
  end
  return {
    owner = owner, lifetime = lifetime, span = span, number = tonumber(number),
    token = token, since = since, state = state, dies = tonumber(since) + tonumber(span),
  }
end

local function write(ticket)
  return ticket.owner .. ' ' .. ticket.lifetime .. ' ' .. ticket.span .. ' '
    .. string.format('%.0f', ticket.number) .. ' ' .. ticket.token .. ' '
    .. ticket.since .. ' ' .. ticket.state
end

local function at(index)
  local element = call('LINDEX', key, index)
  return element and read(element)
end

-- The key lives as long as the ticket that lives longest, never shorter. A
-- ticket that is alone decides; else the time to live only grows.
local function live_for(span, alone)
  local ms = math.ceil(tonumber(span) / 1000) + 1
  if alone or call('PTTL', key) < ms then
    call('PEXPIRE', key, string.format('%.0f', ms))
  end
end

-- The lease of a head starts or runs anew. PEXPIRE comes first: a full server
-- allows it, and whatever follows a write.
local function lease(head, lifetime)
  local ms = math.ceil(tonumber(lifetime) / 1000) + 1
  if call('LLEN', key) > 1 then
    ms = math.max(ms, call('PTTL', key))
  end
  call('PEXPIRE', key, string.format('%.0f', ms))
  head.lifetime, head.span, head.since, head.state = lifetime, lifetime, now_text, 'C'
  call('LSET', key, 0, write(head))
end

-- Tickets behind the head of other clients than the head's, one of each client:
-- those of the next few, some from further back, and the last. So it costs nearly
-- the same however many wait.
local function some_of_other_clients(owner)
  local seen, found = {[string.sub(owner, 1, 17)] = true}, {}
  local function see(element)
    local client = string.sub(element, 1, 17)
    if not seen[client] and string.sub(element, 1, 1) ~= '-' then
      seen[client], found[#found + 1] = true, string.match(element, '^%S+')
    end
  end
  for _, element in ipairs(call('LRANGE', key, 1, 8)) do
    see(element)
  end
  local length, index = call('LLEN', key), 16
  while index < length do
    see(call('LINDEX', key, index))
    index = index * 2
  end
  if length > 9 then
    see(call('LINDEX', key, -1))
  end
  return found
end

-- A head that only waited is called (rule 3). One without an owner keeps its
-- time, as no client will claim it. If the client that is called is dead, the
-- next client finds out when the claim window is over.
local function promote(head, window)
  if head.owner == '-' then
    head.state = 'C'
  else
    local lifetime = tonumber(head.lifetime)
    head.state, head.since, called = 'P', now_text, head.owner
    head.span = tonumber(window) < lifetime and window or head.lifetime
    head.dies = now + tonumber(head.span)
    live_for(head.span, call('LLEN', key) == 1)
    watchers, watch_for = some_of_other_clients(head.owner), head.span
  end
  call('LSET', key, 0, write(head))
end

-- Puts these elements in the place of the first so many. The key never
-- vanishes in between: in a cluster it may be moving to another node.
local function replace(old, new)
  for first = 1, #new, 1000 do
    call('RPUSH', key, unpack(new, first, math.min(first + 999, #new)))
  end
  if #new > 0 then
    call('LTRIM', key, old, -1)
  else
    call('DEL', key)
  end
end

-- The client of a head that was called and never answered is dead: all its
-- tickets go (rule 6). Rare, so it may look at every element.
local function drop_tickets_of(client)
  local kept, before = {}, #abandoned
  for _, element in ipairs(call('LRANGE', key, 0, -1)) do
    if string.sub(element, 1, 16) == client then
      abandoned[#abandoned + 1] = element
    else
      kept[#kept + 1] = element
    end
  end
  if #abandoned == before then
    return
  end
  replace(#kept + #abandoned - before, kept)
end

-- Drops dead heads (rule 6), and before them so many that are finished, and
-- calls the one that comes first then. Returns the head. Looks first, and
-- changes then: a step that finds a damaged ticket changes nothing.
local function settle(window, finished)
  local head, dead_client
  local dead = finished or 0
  while true do
    local element = call('LINDEX', key, dead)
    if not element then
      break
    end
    local ticket = read(element)
    if dead_client and string.sub(ticket.owner, 1, 16) == dead_client then
      abandoned[#abandoned + 1] = element
    elseif ticket.dies > now then
      head = ticket
      break
    else
      expired[#expired + 1] = element
      -- Nobody but the first can have been called.
      if ticket.state == 'P' then
        dead_client = string.sub(ticket.owner, 1, 16)
      end
    end
    dead = dead + 1
  end
  if dead > 0 then
    call('LPOP', key, dead)
  end
  if head and dead_client then
    drop_tickets_of(dead_client)
  end
  if head and head.state == 'W' then
    promote(head, window)
  end
  return head
end

-- Where the ticket of an owner stands, from 0 on. Numbers rise from head to
-- tail, so that one whose number is known is found in a few looks, mostly in
-- the first. Otherwise every element is looked at, the latest first.
local function find(owner, number)
  local length = call('LLEN', key)
  if number == '-' then
    local begin = owner .. ' '
    for last = length - 1, 0, -100 do
      local first = math.max(last - 99, 0)
      local elements = call('LRANGE', key, first, last)
      for i = #elements, 1, -1 do
        if string.sub(elements[i], 1, #begin) == begin then
          return first + i - 1, elements[i]
        end
      end
    end
    return nil
  end
  number = tonumber(number)
  local low, high = 0, length - 1
  if high >= 0 then
    local guess = number - at(0).number
    while low <= high do
      local index = math.max(low, math.min(guess, high))
      local element = call('LINDEX', key, index)
      local found = read(element)
      if found.number == number then
        if owner == '#' or found.owner == owner then
          return index, element
        end
        return nil
      elseif found.number < number then
        low = index + 1
      else
        high = index - 1
      end
      guess = math.floor((low + high) / 2)
    end
  end
  return nil
end

local function tell(word, owner)
  if owner ~= '-' then
    return call('@PUBLISH@', channel .. string.sub(owner, 1, 16), word .. ' ' .. owner .. ' ' .. key)
  end
end

-- Tells all whom this step concerns, but not its caller.
local function tell_all(caller)
  if called and called ~= caller then
    tell('turn', called)
    -- Some of them may be dead, too: one that does not hear it does not count,
    -- and one that hears it may be frozen.
    local heard = 0
    for _, watcher in ipairs(watchers) do
      if watcher == caller or tell('watch-' .. watch_for, watcher) > 0 then
        heard = heard + 1
      end
      if heard == 3 then
        break
      end
    end
  end
  for _, dropped in ipairs({expired, abandoned}) do
    for _, element in ipairs(dropped) do
      tell('gone', string.match(element, '^%S+'))
    end
  end
end
