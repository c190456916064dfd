//! A ticket: one place in a conversation's queue.

mod queue;
mod rasa;

use std::time::Duration;

pub use queue::{Changes, TicketLock};

use crate::identity::{FencingToken, Owner};
use crate::time::Timestamp;

/// One place in a conversation's queue.
///
/// Plain data; the rules by which it moves are those of [`TicketLock`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The number on it: 0 in an empty queue, else the last one plus one.
    pub number: u64,
    /// When it dies, unless something happens before.
    pub expires: Timestamp,
    /// Rises from ticket to ticket of a conversation, also over empty queues.
    pub fencing_token: FencingToken,
    /// Who took it; `None` for a ticket in Rasa's manner, known by its number
    /// alone, which nobody will claim.
    pub owner: Option<Owner>,
    /// How long its lease is, from each claim on.
    pub lifetime: Duration,
    /// How far it has come.
    pub state: TicketState,
}

/// How far a ticket has come. A ticket only moves downwards in this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TicketState {
    /// Others are ahead. It dies with its wait timeout.
    Waiting,
    /// It is the head and its owner was called. It dies with the claim
    /// window, and then its client is taken for dead.
    Promoted,
    /// Its owner said that it is there. It dies with its lease.
    Claimed,
}

impl TicketState {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Promoted => "promoted",
            Self::Claimed => "claimed",
        }
    }
}

impl Ticket {
    /// Whether it is dead at `now`.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires <= now
    }
}
