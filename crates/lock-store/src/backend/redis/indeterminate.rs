//! Issues whose outcome is not known: the caller went away, or the connection
//! did.
//!
//! Over one connection a ticket's finish comes after its issue, and nothing is
//! left. If the connection was replaced in between, the issue may still wait in
//! a buffer and be done after the finish. Such an issue carries the moment
//! until which it may be done; so the finish is done again after that.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::scripts::Action;
use crate::identity::Owner;
use crate::sync::Mutex;

/// The owners whose tickets may or may not be there.
#[derive(Debug, Default)]
pub(super) struct Indeterminate {
    attempts: Mutex<HashMap<Owner, Vec<Attempt>>>,
    /// Mostly there are none, and that is known without the lock.
    count: AtomicUsize,
}

/// A connection over which a ticket was asked for, and until when that may be
/// done.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    generation: u64,
    until: Instant,
}

impl Indeterminate {
    /// The ticket was given back over that connection. Until when it may still
    /// be issued over another one, if it may.
    pub(super) fn until(&self, owner: Owner, generation: u64) -> Option<Instant> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let attempts = self.attempts.lock();
        let others = attempts.get(&owner)?.iter();
        let others = others.filter(|attempt| attempt.generation != generation);
        let until = others.map(|attempt| attempt.until).max();
        until.filter(|until| *until > Instant::now())
    }

    /// Whether its ticket may be there although its caller does not know of it.
    pub(super) fn has(&self, owner: Owner) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        self.attempts.lock().contains_key(&owner)
    }

    /// Its ticket cannot come any more.
    pub(super) fn forget(&self, owner: Owner) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut attempts = self.attempts.lock();
        attempts.remove(&owner);
        self.count.store(attempts.len(), Ordering::Release);
    }

    fn insert(&self, owner: Owner, unanswered: Vec<Attempt>) {
        let mut attempts = self.attempts.lock();
        attempts.insert(owner, unanswered);
        self.count.store(attempts.len(), Ordering::Release);
    }
}

/// Watches over an issue: each attempt without an answer leaves its outcome
/// open. Other steps need no watching.
#[derive(Debug)]
pub(super) struct Watch {
    all: Arc<Indeterminate>,
    owner: Option<Owner>,
    attempts: Vec<Attempt>,
    /// The usual case, which needs no list: one attempt, being made.
    first: Option<Attempt>,
}

impl Watch {
    pub(super) fn new(all: &Arc<Indeterminate>, action: &Action) -> Self {
        Self {
            all: all.clone(),
            owner: match action {
                Action::Issue(issue) => issue.owner,
                _ => None,
            },
            attempts: Vec::new(),
            first: None,
        }
    }

    pub(super) fn sent(&mut self, generation: u64, until: Instant) {
        let attempt = Attempt { generation, until };
        if let Some(before) = self.first.replace(attempt) {
            self.attempts.push(before);
        }
    }

    /// What was asked over that connection was answered, or came before.
    pub(super) fn answered(&mut self, generation: u64) {
        self.first = self.first.filter(|first| first.generation != generation);
        self.attempts
            .retain(|attempt| attempt.generation != generation);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(owner) = self.owner else {
            return;
        };
        self.attempts.extend(self.first);
        if !self.attempts.is_empty() {
            self.all.insert(owner, std::mem::take(&mut self.attempts));
        }
    }
}
