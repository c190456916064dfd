-- Many: does the steps of several conversations, one after the other, each as
-- if it had come alone; one that fails does not keep the others from being done.
-- The clock is read once.
--
-- KEYS  a queue for each step
-- ARGV  1 what the channels begin with   2 until when this may be done
--       then for each step its letter and what it is asked:
--         i  the begin of its element, its time to live, the options of issue
--         l  the element to remove
--         c  owner, lifetime, claim window, number
--         a  owner, lifetime, claim window, number
--         f  owner and a space, claim window, number, first finished
--
-- Reply {now, a letter for each step, the answers of the steps that have "*"}
--         1  issued and served, with the token `now`; or removed
--         0  nothing was there to remove
--         *  what the step alone answers, or {4, error}
--       {3, now}: too late
--@now
if now_text > ARGV[2] then
  return {3, now_text}
end
local function issue(KEYS, ARGV)
--@issue
end
local function claim(KEYS, ARGV)
--@claim
end
local function advance(KEYS, ARGV)
--@advance
end
local function finish(KEYS, ARGV)
--@finish
end
local channel, till, at, A = ARGV[1], ARGV[2], 3, ARGV
local tail = now_text .. ' ' .. now_text .. ' C'
local letters, unusual = {}, {}
local function alone(i, step, ...)
  local done, answer = pcall(step, {KEYS[i]}, {...})
  if not done then
    answer = {4, type(answer) == 'table' and answer.err or tostring(answer)}
  end
  letters[i] = '*'
  unusual[#unusual + 1] = answer
end
for i = 1, #KEYS do
  local letter = A[at]
  if letter == 'i' then
    local begin, ttl, options = A[at + 1], A[at + 2], A[at + 3]
    local first = string.byte(ttl)
    -- The way of most: see issue.lua.
    local length = first and first ~= 45 and try('RPUSH', KEYS[i], begin .. tail)
    if length == 1 then
      call('PEXPIRE', KEYS[i], ttl)
      letters[i] = '1'
    elseif type(length) == 'number' then
      call('RPOP', KEYS[i])
      alone(i, issue, begin, '', till, channel, options)
    else
      alone(i, issue, begin, ttl, till, channel, options)
    end
    at = at + 4
  elseif letter == 'l' then
    local removed = try('LREM', KEYS[i], '1', A[at + 1])
    letters[i] = removed == 1 and '1' or '0'
    at = at + 2
  elseif letter == 'c' then
    alone(i, claim, A[at + 1], A[at + 2], till, channel, A[at + 3], A[at + 4])
    at = at + 5
  elseif letter == 'a' then
    alone(i, advance, A[at + 1], A[at + 2], till, channel, A[at + 3], A[at + 4])
    at = at + 5
  else
    alone(i, finish, A[at + 1], A[at + 2], A[at + 3], channel, A[at + 4])
    at = at + 5
  end
end
return {now_text, table.concat(letters), unusual}
