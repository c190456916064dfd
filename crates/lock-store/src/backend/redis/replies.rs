//! What the scripts answer.

use std::time::Duration;

use redis::Value;

use super::element::read;
use crate::backend::{Claimed, Finished, Issued};
use crate::identity::FencingToken;
use crate::ticket::{Changes, Ticket};
use crate::time::Timestamp;

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

/// The server's clock, where an answer tells it.
pub(super) fn server_time(reply: &Value) -> Option<Timestamp> {
    let now = match reply {
        Value::BulkString(token) => token,
        Value::Array(fields) => match &fields[..] {
            [Value::Int(0), _, _, Value::BulkString(now), ..]
            | [Value::Int(3), Value::BulkString(now)]
            | [Value::BulkString(now), _, _] => now,
            _ => return None,
        },
        _ => return None,
    };
    let now = std::str::from_utf8(now).ok()?.parse().ok()?;
    Some(Timestamp::from_micros(now))
}

/// The answer to one of many steps that were sent in one call.
pub(super) enum OfMany {
    /// What the step alone answers.
    Reply(Value),
    /// The step failed, with this error.
    Failed(String),
}

/// The answers to so many steps that were sent in one call, in their order.
pub(super) fn read_many(reply: Value, steps: usize) -> Option<Vec<OfMany>> {
    let Value::Array(fields) = reply else {
        return None;
    };
    let [now, letters, unusual] = <[Value; 3]>::try_from(fields).ok()?;
    let (Value::BulkString(letters), Value::Array(unusual)) = (letters, unusual) else {
        return None;
    };
    if letters.len() != steps {
        return None;
    }
    let mut unusual = unusual.into_iter();
    let answer = |letter: u8| match letter {
        // An issue reads the token, a removal that it is not 0.
        b'1' => Some(OfMany::Reply(now.clone())),
        b'0' => Some(OfMany::Reply(Value::Int(0))),
        _ => Some(match unusual.next()? {
            Value::Array(fields) => match &fields[..] {
                [Value::Int(4), Value::BulkString(error)] => {
                    OfMany::Failed(String::from_utf8_lossy(error).into_owned())
                }
                _ => OfMany::Reply(Value::Array(fields)),
            },
            reply => OfMany::Reply(reply),
        }),
    };
    letters.into_iter().map(answer).collect()
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
            behind: FencingToken::new(fields.number()?),
        },
        2 => Issued::Taken,
        _ => return None,
    };
    let changes = fields.changes()?;
    Some(Answer { of, changes })
}

/// The server's time, if it says that a step came too late.
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
        0 => {
            let number = fields.number()?;
            let fencing_token = FencingToken::new(fields.number()?);
            fields.number()?; // the server's clock
            Claimed::Served {
                number,
                fencing_token,
            }
        }
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
            expired: self.tickets()?,
            abandoned: self.tickets()?,
            ..Changes::default()
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
