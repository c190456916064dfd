//! Rasa's layout: the same scripts over one JSON text, and what the owners of
//! tickets know about them, as Rasa drops what it does not know.

mod turns;

use std::collections::HashMap;

use redis::{Cmd, Value};

pub(super) use self::turns::Turn;
use self::turns::Turns;

use super::element::{micros, read};
use super::keys::Keys;
use super::scripts::{Action, owner_of};
use crate::config::DEFAULT_LOCK_LIFETIME;
use crate::identity::Owner;
use crate::sync::Mutex;

/// What the scripts need in this layout.
#[derive(Debug)]
pub(super) struct Rasa {
    /// What goes before every script: a list over the text.
    list: String,
    known: Mutex<Tickets>,
    turns: Turns,
}

/// The tickets of this process, as they were when it heard of them last.
#[derive(Debug, Default)]
struct Tickets {
    of: HashMap<Owner, Known, ahash::RandomState>,
    /// How many there may be before the dead ones are dropped.
    enough: usize,
}

#[derive(Debug)]
struct Known {
    /// The queue that it is in.
    key: String,
    element: String,
    number: u64,
    /// When this was so by the server's clock, or before that; in µs.
    since: u64,
    /// What Rasa keeps of it, besides the number: µs since the epoch.
    expires: u64,
}

impl Rasa {
    pub(super) fn new(keys: &Keys) -> Self {
        let list = include_str!("layout_rasa/list.lua")
            .replace("@LIFETIME@", &micros(DEFAULT_LOCK_LIFETIME).to_string())
            .replace("@ID_BEGINS@", &(keys.queues_begin() + 1).to_string());
        Self {
            list,
            known: Mutex::default(),
            turns: Turns::default(),
        }
    }

    pub(super) fn script(&self, text: &str) -> String {
        let list = &self.list;
        format!("{list}\nlocal function step()\n{text}\nend\nreturn answer(step)\n")
    }

    /// Waits until no other step of the same owner is under way: what that one
    /// makes of the ticket is to be brought along.
    pub(super) async fn turn(&self, action: &Action) -> Option<Turn> {
        Some(self.turns.of(owner_of(action)?).await)
    }

    /// Adds what the owner knows of its ticket to a step of its.
    pub(super) fn bring_along(&self, command: &mut Cmd, action: &Action) {
        if let Some(owner) = owner_of(action) {
            let known = self.known.lock();
            command.arg(known.of.get(&owner).map_or_else(String::new, |known| {
                format!("known {} {} {}", known.number, known.expires, known.element)
            }));
        }
    }

    /// Learns how the owner's ticket stands now, and hands on the rest. In a
    /// look at the whole queue bare tickets of this process are recognised.
    pub(super) fn answer(&self, action: &Action, key: &str, reply: Value) -> Value {
        let fields = match reply {
            Value::Array(fields) => fields,
            other => return other,
        };
        let mut fields = fields.into_iter();
        let Some(answer) = fields.next() else {
            return Value::Nil;
        };
        if let Some(owner) = owner_of(action) {
            let mut known = self.known.lock();
            match Known::read(key, fields.next(), fields.next()) {
                Some(ticket) => known.insert(owner, ticket),
                None => {
                    known.of.remove(&owner);
                }
            }
        }
        match answer {
            Value::Array(elements) if matches!(action, Action::Get) => {
                let known = self.known.lock();
                let whole = |element| known.recognise(key, element);
                Value::Array(elements.into_iter().map(whole).collect())
            }
            answer => answer,
        }
    }
}

impl Tickets {
    /// A bare element of ours as it was, and any other as it is.
    fn recognise(&self, key: &str, element: Value) -> Value {
        let bare = match &element {
            Value::BulkString(text) if text.starts_with(b"- ") => {
                std::str::from_utf8(text).ok().and_then(read)
            }
            _ => None,
        };
        let Some(bare) = bare else {
            return element;
        };
        let is_it = |known: &&Known| {
            known.key == key
                && known.number == bare.number
                && known.expires == bare.expires.as_micros()
        };
        match self.of.values().find(is_it) {
            Some(known) => Value::BulkString(known.element.clone().into_bytes()),
            None => element,
        }
    }

    /// Not every owner asks for its ticket once more: one may hear that it is
    /// gone. So from time to time those are dropped that are dead by now.
    fn insert(&mut self, owner: Owner, ticket: Known) {
        if self.of.len() >= self.enough {
            let now = ticket.since;
            self.of.retain(|_, known| known.expires > now);
            self.enough = 2 * self.of.len().max(512);
        }
        self.of.insert(owner, ticket);
    }
}

impl Known {
    fn read(key: &str, element: Option<Value>, expires: Option<Value>) -> Option<Self> {
        let (Value::BulkString(element), Value::BulkString(expires)) = (element?, expires?) else {
            return None;
        };
        let element = String::from_utf8(element).ok()?;
        Some(Self {
            key: key.to_owned(),
            number: read(&element)?.number,
            since: element.split(' ').nth(5)?.parse().ok()?,
            expires: std::str::from_utf8(&expires).ok()?.parse().ok()?,
            element,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ClientId;

    #[test]
    fn tickets_of_which_nobody_hears_again_are_forgotten() {
        let mut tickets = Tickets::default();
        for sequence in 0..100_000 {
            let client = ClientId::from_u64(7);
            let ticket = Known {
                key: String::new(),
                element: String::new(),
                number: sequence,
                since: sequence,
                expires: sequence + 100,
            };
            tickets.insert(Owner { client, sequence }, ticket);
            assert!(tickets.of.len() <= 1024);
        }
        // Those that live are not.
        for sequence in 99_900..100_000 {
            let client = ClientId::from_u64(7);
            assert!(tickets.of.contains_key(&Owner { client, sequence }));
        }
    }
}
