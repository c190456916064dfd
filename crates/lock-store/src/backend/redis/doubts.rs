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
pub(super) struct Doubts(Mutex<HashMap<Owner, Doubt>>);

/// The last connection over which a ticket was asked for, and until when that
/// may be done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    pub(super) generation: u64,
    pub(super) until: Instant,
}

impl Doubts {
    /// Watches over a request; there is a doubt if it ends without an answer.
    pub(super) fn watch(&self, owner: Option<Owner>) -> Watch<'_> {
        Watch {
            doubts: self,
            owner,
            last: None,
        }
    }

    /// The doubt about this owner, which is then forgotten.
    pub(super) fn take(&self, owner: Owner) -> Option<Doubt> {
        self.0.lock().remove(&owner)
    }
}

pub(super) struct Watch<'d> {
    doubts: &'d Doubts,
    owner: Option<Owner>,
    last: Option<Doubt>,
}

impl Watch<'_> {
    pub(super) fn asked(&mut self, generation: u64, until: Instant) {
        self.last = Some(Doubt { generation, until });
    }

    pub(super) fn answered(&mut self) {
        self.last = None;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let (Some(owner), Some(doubt)) = (self.owner, self.last) {
            self.doubts.0.lock().insert(owner, doubt);
        }
    }
}
