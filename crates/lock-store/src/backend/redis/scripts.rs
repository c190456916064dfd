//! The scripts: one per transition, what they are given, what they answer.

mod rasa;

use std::time::Duration;

use redis::{Cmd, Value};

use self::rasa::Rasa;
pub(super) use self::rasa::Turn;
use super::element::{NO_OWNER, micros, owner_text, read};
use super::keys::Keys;
use crate::backend::{Claim, Claimed, Finish, Finished, Issue, Issued, TicketName};
use crate::config::{Layout, RedisConfig};
use crate::identity::FencingToken;
use crate::ticket::{Changes, Ticket};
use crate::time::Timestamp;

/// A step that a script does.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Issue(Issue),
    Claim(Claim),
    Finish(Finish),
    /// A plain look at the list; a script only where it is none.
    Get,
    /// No script: removes an element that nobody waits behind.
    Leave(String),
    Delete,
    Put {
        claim_window: Duration,
        elements: Vec<String>,
    },
}

/// The scripts, as this deployment needs them.
#[derive(Debug)]
pub(super) struct Scripts {
    issue: Script,
    claim: Script,
    finish: Script,
    delete: Script,
    put: Script,
    get: Script,
    check: Script,
    rasa: Option<Rasa>,
    /// The command that tells an owner.
    pub(super) publish: &'static str,
}

#[derive(Debug)]
struct Script {
    text: String,
    hash: String,
}

impl Scripts {
    pub(super) fn new(config: &RedisConfig, keys: &Keys, publish: &'static str) -> Self {
        let rasa = match config.layout {
            Layout::Native => None,
            Layout::Rasa => Some(Rasa::new(keys)),
        };
        let queue = include_str!("lua/queue.lua").replace("@CHANNEL@", &keys.channel_in_lua());
        let commands = match &rasa {
            None => include_str!("lua/check_list.lua"),
            Some(_) => include_str!("lua/check_text.lua"),
        };
        let script = |text: &str| {
            let text = text
                .replace("--@queue", &queue)
                .replace("--@commands", commands)
                .replace("@PUBLISH@", publish);
            let text = match &rasa {
                None => format!("local call, try = redis.call, redis.pcall\n{text}"),
                Some(rasa) => rasa.script(&text),
            };
            let hash = redis::Script::new(&text).get_hash().to_owned();
            Script { text, hash }
        };
        Self {
            issue: script(include_str!("lua/issue.lua")),
            claim: script(include_str!("lua/claim.lua")),
            finish: script(include_str!("lua/finish.lua")),
            delete: script(include_str!("lua/delete.lua")),
            put: script(include_str!("lua/put.lua")),
            check: script(include_str!("lua/check.lua")),
            get: script(include_str!("lua/get.lua")),
            publish,
            rasa,
        }
    }

    /// Whether tickets are elements of a list.
    pub(super) fn are_lists(&self) -> bool {
        self.rasa.is_none()
    }

    /// Every script of a step, to be loaded before it is called.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        [
            &self.issue,
            &self.claim,
            &self.finish,
            &self.delete,
            &self.put,
            &self.get,
        ]
        .into_iter()
        .map(|script| &*script.text)
    }

    /// The command that sees whether everything is allowed that steps do.
    pub(super) fn check(&self, key: &str, channel: &str) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.check.text).arg(1).arg(key).arg(channel);
        command
    }

    /// The command for a step; by its text when the server does not know the
    /// script.
    pub(super) fn command(&self, ask: &Ask, key: &str, by_text: bool, times: &Times) -> Cmd {
        let script = match ask {
            Ask::Get if self.are_lists() => {
                let mut command = redis::cmd("LRANGE");
                command.arg(key).arg(0).arg(-1);
                return command;
            }
            Ask::Leave(element) => {
                let mut command = redis::cmd("LREM");
                command.arg(key).arg(1).arg(element);
                return command;
            }
            Ask::Get => &self.get,
            Ask::Issue(_) => &self.issue,
            Ask::Claim(_) => &self.claim,
            Ask::Finish(_) => &self.finish,
            Ask::Delete => &self.delete,
            Ask::Put { .. } => &self.put,
        };
        let mut command = Cmd::with_capacity(8, 256);
        if by_text {
            command.arg("EVAL").arg(&script.text);
        } else {
            command.arg("EVALSHA").arg(&script.hash);
        }
        command.arg(1).arg(key);
        match ask {
            Ask::Issue(issue) => issue_arguments(&mut command, issue, times),
            Ask::Claim(claim) => {
                command
                    .arg(claim.owner.to_string())
                    .arg(micros(claim.lifetime))
                    .arg(micros(claim.claim_window))
                    .arg(number(claim.number));
            }
            Ask::Finish(finish) => finish_arguments(&mut command, finish),
            Ask::Get | Ask::Leave(_) | Ask::Delete => {}
            Ask::Put {
                claim_window,
                elements,
            } => {
                command.arg(micros(*claim_window)).arg(elements);
            }
        }
        if let Some(rasa) = &self.rasa {
            rasa.bring_along(&mut command, ask);
        }
        command
    }

    /// Waits for the turn of a step among those of its owner, where there is one
    /// to be waited for.
    pub(super) async fn turn(&self, ask: &Ask) -> Option<Turn> {
        match &self.rasa {
            Some(rasa) => rasa.turn(ask).await,
            None => None,
        }
    }

    /// What a step answered, without what the layout added.
    pub(super) fn answer(&self, ask: &Ask, key: &str, reply: Value) -> Value {
        match &self.rasa {
            Some(rasa) => rasa.answer(ask, key, reply),
            None => reply,
        }
    }
}

/// What a step is told about time, besides what was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Until when it may be done, by the server's clock.
    pub(super) until: Timestamp,
    /// Whether it may have been done before.
    pub(super) repeated: bool,
}

impl Times {
    /// For what is asked at any time, and as often as one likes.
    pub(super) const NONE: Self = Self {
        until: Timestamp::from_micros(0),
        repeated: false,
    };
}

fn issue_arguments(command: &mut Cmd, issue: &Issue, times: &Times) {
    let lifetime = micros(issue.lifetime);
    command
        .arg(format!(
            "{} {lifetime} {lifetime} 0 ",
            owner_text(issue.owner)
        ))
        // The key must not go before its ticket.
        .arg(lifetime / 1000 + 1)
        // As texts of the same length they compare like numbers.
        .arg(format!(
            "{:016}",
            times.until.as_micros().min(9_999_999_999_999_999)
        ))
        .arg(format!(
            "{} {} {} {}",
            micros(issue.wait_timeout),
            micros(issue.claim_window),
            u8::from(issue.queue),
            u8::from(issue.repeated || times.repeated),
        ));
}

fn finish_arguments(command: &mut Cmd, finish: &Finish) {
    let (owner, by_number) = match finish.ticket {
        TicketName::Owner(owner) => (format!("{owner} "), finish.number),
        TicketName::Number(number) => ("# ".to_owned(), Some(number)),
        TicketName::Nobodys => ("! ".to_owned(), None),
    };
    command
        .arg(owner)
        .arg(micros(finish.claim_window))
        .arg(number(by_number));
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| NO_OWNER.to_owned(), |number| number.to_string())
}

/// An answer of a script, and what it did to others.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) of: T,
    pub(super) changes: Changes,
}

impl<T> Answer<T> {
    fn alone(of: T) -> Self {
        let changes = Changes::default();
        Self { of, changes }
    }
}

/// Whether an issue came to what most come to: nobody else was there.
pub(super) fn was_alone(reply: &Value) -> bool {
    matches!(reply, Value::BulkString(_))
}

/// `None` for what is no answer, or for one that was [too late](too_late).
pub(super) fn read_issue(reply: Value) -> Option<Answer<Issued>> {
    let mut fields = match reply {
        Value::BulkString(token) => {
            let token = std::str::from_utf8(&token).ok()?.parse().ok()?;
            return Some(Answer::alone(Issued::Served {
                number: 0,
                fencing_token: FencingToken::new(token),
            }));
        }
        Value::Array(fields) => Fields(fields.into_iter()),
        _ => return None,
    };
    let of = match fields.number()? {
        0 => Issued::Served {
            number: fields.number()?,
            fencing_token: FencingToken::new(fields.number()?),
        },
        1 => Issued::Waiting {
            number: fields.number()?,
            fencing_token: FencingToken::new(fields.number()?),
            ahead: fields.number()?,
            look_again: Duration::from_micros(fields.number()?),
        },
        2 => Issued::Taken,
        _ => return None,
    };
    let changes = fields.changes()?;
    Some(Answer { of, changes })
}

/// The server's time, if it says that an issue came too late.
pub(super) fn too_late(reply: &Value) -> Option<Timestamp> {
    match reply {
        Value::Array(fields) => match &fields[..] {
            [Value::Int(3), Value::BulkString(now)] => {
                let now = std::str::from_utf8(now).ok()?.parse().ok()?;
                Some(Timestamp::from_micros(now))
            }
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn read_claim(reply: Value) -> Option<Answer<Claimed>> {
    let Value::Array(fields) = reply else {
        return None;
    };
    let mut fields = Fields(fields.into_iter());
    let of = match fields.number()? {
        0 => Claimed::Served {
            number: fields.number()?,
            fencing_token: FencingToken::new(fields.number()?),
        },
        1 => Claimed::Waiting {
            ahead: fields.number()?,
            look_again: Duration::from_micros(fields.number()?),
        },
        _ => Claimed::Gone,
    };
    let changes = fields.changes()?;
    Some(Answer { of, changes })
}

/// What came of a finish, and whether the queue is empty now.
pub(super) fn read_finish(reply: Value) -> Option<Answer<(Finished, bool)>> {
    let mut fields = match reply {
        Value::Int(1) => {
            let finished = Finished {
                found: true,
                in_doubt: false,
                next: None,
            };
            return Some(Answer::alone((finished, true)));
        }
        Value::Array(fields) => Fields(fields.into_iter()),
        _ => return None,
    };
    let found = fields.number()? == 1;
    let next = fields.text()?;
    let finished = Finished {
        found,
        in_doubt: false,
        next: if next.is_empty() {
            None
        } else {
            Some(next.parse().ok()?)
        },
    };
    let is_empty = fields.number()? == 0;
    let changes = fields.changes()?;
    Some(Answer {
        of: (finished, is_empty),
        changes,
    })
}

pub(super) fn read_put(reply: Value) -> Option<Changes> {
    match reply {
        Value::Array(fields) => Fields(fields.into_iter()).changes(),
        _ => None,
    }
}

/// The fields of a reply, one after the other.
struct Fields(std::vec::IntoIter<Value>);

impl Fields {
    fn number(&mut self) -> Option<u64> {
        match self.0.next()? {
            // A head that died within this very microsecond.
            Value::Int(number) => Some(u64::try_from(number).unwrap_or(0)),
            Value::BulkString(text) => std::str::from_utf8(&text).ok()?.parse().ok(),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        match self.0.next()? {
            Value::BulkString(text) => String::from_utf8(text).ok(),
            _ => None,
        }
    }

    fn changes(&mut self) -> Option<Changes> {
        Some(Changes {
            wake: None,
            expired: self.tickets()?,
            abandoned: self.tickets()?,
        })
    }

    fn tickets(&mut self) -> Option<Vec<Ticket>> {
        let Value::Array(elements) = self.0.next()? else {
            return None;
        };
        let ticket = |element: Value| match element {
            Value::BulkString(text) => read(std::str::from_utf8(&text).ok()?),
            _ => None,
        };
        elements.into_iter().map(ticket).collect()
    }
}
