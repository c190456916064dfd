-- The layout of Rasa 3.6: all tickets of a conversation in one JSON text,
--
--   {"conversation_id": "…", "tickets": ["{\"number\": 0, \"expires\": 1763920000.5, …}", …]}
--
-- The steps see a list all the same: `call` does to the tickets what Redis does
-- to a list, and the text is written when the step is over.
--
-- Rasa's instances read `number` and `expires` of a ticket, and write back
-- nothing else. So a ticket loses what is ours whenever one of them writes.
-- Its owner knows it nonetheless by its number and by `expires`, which only its
-- owner ever changes; the owner brings what it was (the last of ARGV), and the
-- next step of its owner puts it back. While it is bare, nobody can call its
-- owner, who then finds its turn by looking.

-- The elements, and for each what Rasa calls `expires`, in µs.
local elements, ends
local before, loaded = '', 0

local function picture()
  return table.concat(elements, '\n') .. '\n' .. table.concat(ends, '\n')
end

local function damaged(found)
  error('DAMAGED ' .. (string.gsub(string.sub(found, 1, 200), '[^\32-\126]', '?')))
end

local function whole(number)
  return string.format('%.0f', number)
end

-- This server's clock, in µs.
local now_is
local function clock()
  if not now_is then
    local time = redis.call('TIME')
    now_is = tonumber(time[1]) * 1e6 + tonumber(time[2])
  end
  return now_is
end

-- When an element dies, in µs.
local function death(element)
  local span, since = string.match(element, '^%S+ %d+ (%d+) %d+ %d+ (%d+)')
  return tonumber(since) + tonumber(span)
end

local states = {waiting = 'W', promoted = 'P', claimed = 'C'}

-- What is ours in a ticket, if all of it is there.
local function ours(ticket, number, dies)
  local owner, state = ticket.owner or '-', states[ticket.state]
  local lifetime, token, since = ticket.lifetime, ticket.fencing_token, ticket.since
  if type(owner) ~= 'string' or owner ~= '-' and (not string.find(owner, '^%x+%.%d+$') or #owner < 18)
    or not state or type(lifetime) ~= 'number' or type(token) ~= 'number'
    or type(since) ~= 'number' then
    return nil
  end
  since = tonumber(whole(since * 1e6))
  local span = dies - since
  if type(ticket.span) == 'number' then
    span = ticket.span * 1e6
  end
  if ticket.followed == true then
    state = 'F'
  end
  return owner .. ' ' .. whole(lifetime * 1e6) .. ' ' .. whole(math.max(span, 0)) .. ' '
    .. number .. ' ' .. whole(token) .. ' ' .. whole(since) .. ' ' .. state
end

-- A ticket of Rasa's, or a bare one of ours. Rasa's lifetime runs from issue;
-- one that lives longer was not issued in the future: its token would be higher
-- than those that come when the queue is empty.
local function bare(number, dies, token_before, is_head)
  local since = math.max(math.min(dies - @LIFETIME@, clock()), 0)
  return '- @LIFETIME@ ' .. whole(dies - since) .. ' ' .. number .. ' '
    .. whole(math.max(since, token_before + 1)) .. ' ' .. whole(since)
    .. (is_head and ' C' or ' W')
end

-- Brings back what the caller's ticket was, if it is bare.
local function restore()
  local number, dies, element = string.match(ARGV[#ARGV] or '', '^known (%d+) (%d+) (.+)$')
  if not number then
    return
  end
  local begin = string.match(element, '^%S+ ')
  local at
  for i = 1, #elements do
    if string.sub(elements[i], 1, #begin) == begin then
      return
    end
    if ends[i] == dies and string.match(elements[i], '^%- %d+ %d+ (%d+)') == number then
      at = i
    end
  end
  if at then
    elements[at] = element
  end
end

local function load()
  local text = redis.call('GET', KEYS[1])
  elements, ends = {}, {}
  if text then
    local is_json, lock = pcall(cjson.decode, text)
    if not is_json or type(lock) ~= 'table' or type(lock.tickets) ~= 'table'
      or #lock.tickets == 0 and next(lock.tickets) then
      damaged(text)
    end
    local token = 0
    for i, json in ipairs(lock.tickets) do
      local is_ticket, ticket = pcall(cjson.decode, json)
      if not is_ticket or type(ticket) ~= 'table'
        or type(ticket.number) ~= 'number' or ticket.number < 0 or ticket.number > 2 ^ 53
        or type(ticket.expires) ~= 'number' or ticket.expires < 0 or ticket.expires > 8e9 then
        damaged(type(json) == 'string' and json or text)
      end
      ends[i] = whole(ticket.expires * 1e6)
      local number, dies = whole(ticket.number), tonumber(ends[i])
      elements[i] = ours(ticket, number, dies) or bare(number, dies, token, i == 1)
      token = tonumber(string.match(elements[i], '^%S+ %d+ %d+ %d+ (%d+)'))
    end
  end
  before, loaded = picture(), #elements
  restore()
end

-- A place in a list, as Redis counts, as one of Lua.
local function place(index)
  index = tonumber(index)
  return index < 0 and #elements + index + 1 or index + 1
end

local function put(element, at)
  table.insert(elements, at, element)
  table.insert(ends, at, whole(death(element)))
end

local function drop(at)
  table.remove(ends, at)
  return table.remove(elements, at) or false
end

local as_list = {
  LLEN = function()
    return #elements
  end,
  LINDEX = function(index)
    return elements[place(index)] or false
  end,
  LRANGE = function(first, last)
    local found = {}
    for i = math.max(place(first), 1), math.min(place(last), #elements) do
      found[#found + 1] = elements[i]
    end
    return found
  end,
  LSET = function(index, element)
    local at = place(index)
    -- What a called ticket has left is shorter than what Rasa is told, so that
    -- its owner knows it by that.
    if not string.find(element, ' P$') then
      ends[at] = whole(death(element))
    end
    elements[at] = element
  end,
  RPUSH = function(...)
    for _, element in ipairs({...}) do
      put(element, #elements + 1)
    end
    return #elements
  end,
  LPOP = function(count)
    local first
    for i = 1, count or 1 do
      local element = drop(1)
      first = first or element
    end
    return first
  end,
  RPOP = function()
    return drop(#elements)
  end,
  LREM = function(_, element)
    for i = 1, #elements do
      if elements[i] == element then
        drop(i)
        return 1
      end
    end
    return 0
  end,
  LTRIM = function(first)
    for i = 2, place(first) do
      drop(1)
    end
  end,
  DEL = function()
    elements, ends, before = {}, {}, '\n'
    return redis.call('DEL', KEYS[1])
  end,
  -- The key lives as long as the ticket that Rasa or we keep longest.
  PTTL = function()
    return math.huge
  end,
  PEXPIRE = function()
    return 1
  end,
}

local function call(command, ...)
  local does = as_list[command]
  if not does then
    return redis.call(command, ...)
  end
  if not elements and command ~= 'DEL' then
    load()
  end
  return does(select(2, ...))
end

local function try(...)
  local done, answer = pcall(call, ...)
  return done and answer or {}
end

local function seconds(micros)
  micros = string.rep('0', 7 - #micros) .. micros
  return string.sub(micros, 1, -7) .. '.' .. string.sub(micros, -6)
end

local names = {W = 'waiting', P = 'promoted', C = 'claimed', F = 'claimed'}

local function ticket_text(element, dies)
  local owner, lifetime, span, number, token, since, state = string.match(element,
    '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%a)$')
  local text = '{"number": ' .. number .. ', "expires": ' .. seconds(dies)
    .. ', "fencing_token": ' .. token
  if owner ~= '-' then
    text = text .. ', "owner": "' .. owner .. '"'
  end
  text = text .. ', "lifetime": ' .. seconds(lifetime) .. ', "state": "' .. names[state]
    .. '", "since": ' .. seconds(since)
  if state == 'P' then
    text = text .. ', "span": ' .. seconds(span)
  elseif state == 'F' then
    text = text .. ', "followed": true'
  end
  return text .. '}'
end

local function save()
  if not elements or picture() == before then
    return
  end
  if #elements == 0 then
    redis.call('DEL', KEYS[1])
    return
  end
  local tickets, last = {}, 0
  for i, element in ipairs(elements) do
    last = math.max(last, tonumber(ends[i]), death(element))
    tickets[i] = cjson.encode(ticket_text(element, ends[i]))
  end
  local id = string.sub(KEYS[1], @ID_BEGINS@)
  -- A full server refuses SET as the first write: it may refuse new tickets, but
  -- not what becomes of those that are there.
  if #elements <= loaded then
    redis.call('PEXPIRE', KEYS[1], @LIFETIME@)
  end
  local left = math.ceil((last - clock()) / 1000) + 1
  redis.call('SET', KEYS[1], '{"conversation_id": ' .. cjson.encode(id) .. ', "tickets": ['
    .. table.concat(tickets, ', ') .. ']}', 'PX', whole(math.max(left, 1)))
end

-- Does the step, and answers what the step does, and how the caller's ticket
-- stands now, for the caller to bring along the next time:
-- {reply} or {reply, element, its `expires` in µs}
local function answer(step)
  local reply = step()
  save()
  local owner = string.match(ARGV[1] or '', '^%x+%.%d+')
  for i, element in ipairs(owner and elements or {}) do
    if string.sub(element, 1, #owner + 1) == owner .. ' ' then
      return {reply, element, ends[i]}
    end
  end
  return {reply}
end
