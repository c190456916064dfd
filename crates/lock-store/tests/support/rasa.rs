//! An instance of Rasa that is played: what its own `RedisLockStore` does to
//! the lock of a conversation.
//!
//! Each of its steps is done at once, by a script. Rasa itself reads, changes
//! and writes, and has races with whoever comes in between; they are not what
//! is tested with this.

use redis_fixture::{Connection, Reply, Server};

/// KEYS 1 the lock; ARGV 1 what to do, 2 the number or the lifetime.
const STEPS: &str = r#"
local text = redis.call('GET', KEYS[1])
local does, argument = ARGV[1], tonumber(ARGV[2])
if not text and does ~= 'issue' then
  return -1
end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6

-- Without what Rasa does not know, and without the expired ones.
local tickets = {}
for _, json in ipairs(text and cjson.decode(text).tickets or {}) do
  -- As they are written: Python reads and writes them without loss.
  local number, expires = string.match(json, '"number": (%d+), "expires": ([%d.]+)')
  if tonumber(expires) > now then
    tickets[#tickets + 1] = {number, expires}
  end
end
if does == 'look' then
  return tickets[1] and tonumber(tickets[1][1]) == argument and 1 or 0
end

local answer = 0
if does == 'issue' then
  answer = #tickets > 0 and tickets[#tickets][1] + 1 or 0
  tickets[#tickets + 1] = {answer, string.format('%.6f', now + argument)}
elseif does == 'finish' then
  for i = #tickets, 1, -1 do
    if tonumber(tickets[i][1]) == argument then
      table.remove(tickets, i)
      answer = answer + 1
    end
  end
  if #tickets == 0 then
    redis.call('DEL', KEYS[1])
    return answer
  end
end
local texts = {}
for i, ticket in ipairs(tickets) do
  texts[i] = cjson.encode('{"number": ' .. ticket[1] .. ', "expires": ' .. ticket[2] .. '}')
end
local id = string.match(KEYS[1], 'lock:(.*)')
redis.call('SET', KEYS[1], '{"conversation_id": ' .. cjson.encode(id) .. ', "tickets": ['
  .. table.concat(texts, ', ') .. ']}')
return answer
"#;

/// One instance, with a connection of its own.
pub struct Instance(Connection);

/// How a ticket of Rasa's stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Served,
    Waiting,
    /// There is no lock any more.
    Gone,
}

impl Instance {
    pub fn at(server: &Server) -> Self {
        Self(server.connect().unwrap())
    }

    /// `issue_ticket`, for so many seconds.
    pub fn issue_ticket(&mut self, id: &str, lifetime: u32) -> i64 {
        self.step("issue", id, &lifetime.to_string())
    }

    /// What decides in `_acquire_lock`.
    pub fn look(&mut self, id: &str, number: i64) -> Standing {
        match self.step("look", id, &number.to_string()) {
            1 => Standing::Served,
            0 => Standing::Waiting,
            _ => Standing::Gone,
        }
    }

    /// `update_lock`: what a waiting instance does once a second. Whether there
    /// was a lock.
    pub fn update_lock(&mut self, id: &str) -> bool {
        self.step("update", id, "") == 0
    }

    /// `finish_serving` and `cleanup`. Whether the ticket was there.
    pub fn finish_serving(&mut self, id: &str, number: i64) -> bool {
        self.step("finish", id, &number.to_string()) == 1
    }

    fn step(&mut self, does: &str, id: &str, argument: &str) -> i64 {
        let key = format!("lock:{id}");
        let command = ["EVAL", STEPS, "1", &key, does, argument];
        match self.0.command(&command).unwrap() {
            Reply::Integer(answer) => answer,
            other => panic!("{does} {id}: {other:?}"),
        }
    }
}
