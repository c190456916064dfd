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
try('TIME')
try('RPUSH', KEYS[1], 'a', 'b', 'c')
try('PEXPIRE', KEYS[1], 1000)
try('PTTL', KEYS[1])
try('LLEN', KEYS[1])
try('LINDEX', KEYS[1], 0)
try('LRANGE', KEYS[1], 0, 1)
try('LSET', KEYS[1], 0, 'd')
try('LREM', KEYS[1], 1, 'b')
try('LTRIM', KEYS[1], 0, -1)
try('LPOP', KEYS[1])
try('RPOP', KEYS[1])
try('DEL', KEYS[1])
try('@PUBLISH@', ARGV[1], '')
return refusal
