-- Check: sees whether this user may do everything that the other scripts do,
-- on a key and a channel of its own. Leaves nothing behind.
--
-- KEYS  1 a key that nobody uses     ARGV  1 a channel that nobody hears
--
-- Reply the first refusal, as "<command>: <error>", or "" if there is none

local refusal = ''
local function try(...)
  local answer = redis.pcall(...)
  if refusal == '' and type(answer) == 'table' and answer.err then
    refusal = (...) .. ': ' .. answer.err
  end
end
--@commands
try('@PUBLISH@', ARGV[1], '')
return refusal
