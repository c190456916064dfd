//! Rasa's layout: the same scripts over one JSON text, and what the owners of
//! tickets know about them, as Rasa drops what it does not know.

use std::collections::HashMap;

use redis::{Cmd, Value};

use super::super::element::{micros, read};
use super::super::keys::Keys;
use super::Ask;
use crate::backend::TicketName;
use crate::config::DEFAULT_LOCK_LIFETIME;
use crate::identity::Owner;
use crate::sync::Mutex;

/// What the scripts need in this layout.
#[derive(Debug)]
pub(super) struct Rasa {
    /// What goes before every script: a list over the text.
    list: String,
    /// The tickets of this process, as they were when it heard of them last.
    known: Mutex<HashMap<Owner, Known, ahash::RandomState>>,
}

#[derive(Debug)]
struct Known {
    element: String,
    number: u64,
    /// What Rasa keeps of it, besides the number: µs since the epoch.
    expires: String,
}

impl Rasa {
    pub(super) fn new(keys: &Keys) -> Self {
        let list = include_str!("../lua/rasa.lua")
            .replace("@LIFETIME@", &micros(DEFAULT_LOCK_LIFETIME).to_string())
            .replace("@ID_BEGINS@", &(keys.queues_begin() + 1).to_string());
        Self {
            list,
            known: Mutex::default(),
        }
    }

    pub(super) fn script(&self, text: &str) -> String {
        let list = &self.list;
        format!("{list}\nlocal function step()\n{text}\nend\nreturn answer(step)\n")
    }

    /// Adds what the owner knows of its ticket to a step of its.
    pub(super) fn bring_along(&self, command: &mut Cmd, ask: &Ask) {
        if let Some(owner) = owner_of(ask) {
            let known = self.known.lock();
            command.arg(known.get(&owner).map_or_else(String::new, |known| {
                format!("known {} {} {}", known.number, known.expires, known.element)
            }));
        }
    }

    /// Learns how the owner's ticket stands now, and hands on the rest.
    pub(super) fn answer(&self, ask: &Ask, reply: Value) -> Value {
        let fields = match reply {
            Value::Array(fields) => fields,
            other => return other,
        };
        let mut fields = fields.into_iter();
        let Some(answer) = fields.next() else {
            return Value::Nil;
        };
        if let Some(owner) = owner_of(ask) {
            let mut known = self.known.lock();
            match Known::read(fields.next(), fields.next()) {
                Some(ticket) => known.insert(owner, ticket),
                None => known.remove(&owner),
            };
        }
        answer
    }
}

impl Known {
    fn read(element: Option<Value>, expires: Option<Value>) -> Option<Self> {
        let (Value::BulkString(element), Value::BulkString(expires)) = (element?, expires?) else {
            return None;
        };
        let element = String::from_utf8(element).ok()?;
        Some(Self {
            number: read(&element)?.number,
            expires: String::from_utf8(expires).ok()?,
            element,
        })
    }
}

/// Whose step it is, if it is an owner's.
fn owner_of(ask: &Ask) -> Option<Owner> {
    match ask {
        Ask::Issue(issue) => issue.owner,
        Ask::Claim(claim) => Some(claim.owner),
        Ask::Finish(finish) => match finish.ticket {
            TicketName::Owner(owner) => Some(owner),
            TicketName::Number(_) | TicketName::Nobodys => None,
        },
        Ask::Get | Ask::Leave(_) | Ask::Delete | Ask::Put { .. } => None,
    }
}
