//! Requests for tickets whose outcome is not known: the caller went away, or
//! the connection did.
//!
//! Over one connection a ticket's finish comes after its issue, and nothing is
//! left. If the connection was replaced in between, the issue may still wait in
//! a buffer and be done after the finish. Such an issue carries the moment
//! until which it may be done; so the finish is done again after that.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::identity::Owner;
use crate::sync::Mutex;

/// The owners whose tickets may or may not be there.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<HashMap<Owner, Vec<Doubt>>>);

/// A connection over which a ticket was asked for, and until when that may be
/// done.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    generation: u64,
    until: Instant,
}

impl Doubts {
    /// Watches over a request: each attempt without an answer is a doubt.
    pub(super) fn watch(&self, owner: Option<Owner>) -> Watch<'_> {
        Watch {
            doubts: self,
            owner,
            attempts: Vec::new(),
        }
    }

    /// The ticket was given back over that connection. Until when it may still
    /// be issued over another one, if it may.
    pub(super) fn until(&self, owner: Owner, generation: u64) -> Option<Instant> {
        let all = self.0.lock();
        let doubts = all.get(&owner)?;
        let others = doubts.iter().filter(|doubt| doubt.generation != generation);
        let until = others.map(|doubt| doubt.until).max();
        until.filter(|until| *until > Instant::now())
    }

    /// Whether its ticket may be there although nobody knows of it.
    pub(super) fn has(&self, owner: Owner) -> bool {
        self.0.lock().contains_key(&owner)
    }

    /// Its ticket cannot come any more.
    pub(super) fn forget(&self, owner: Owner) {
        self.0.lock().remove(&owner);
    }
}

pub(super) struct Watch<'d> {
    doubts: &'d Doubts,
    owner: Option<Owner>,
    attempts: Vec<Doubt>,
}

impl Watch<'_> {
    pub(super) fn asked(&mut self, generation: u64, until: Instant) {
        self.attempts.push(Doubt { generation, until });
    }

    /// What was asked over that connection was answered, or came before.
    pub(super) fn answered(&mut self, generation: u64) {
        self.attempts.retain(|doubt| doubt.generation != generation);
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.filter(|_| !self.attempts.is_empty()) {
            let attempts = std::mem::take(&mut self.attempts);
            self.doubts.0.lock().insert(owner, attempts);
        }
    }
}
