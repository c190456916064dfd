//! Locks as they are watched: plain values, without a connection behind them.

use std::time::Duration;

use lock_store::{ConversationId, Inspection, LockSummary, Ticket, TicketState};

/// A lock, seen from afar.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: ConversationId,
    pub(crate) serving: Ticket,
    /// How many tickets are behind the head.
    pub(crate) waiting: u64,
    /// For how long the ticket that comes next has been waiting.
    pub(crate) oldest_wait: Duration,
    pub(crate) lease_left: Duration,
    /// Since the ticket that is served was issued.
    pub(crate) age: Duration,
    /// How long the ticket that is served had to wait, if that can be told.
    pub(crate) waited: Option<Duration>,
    pub(crate) dead: bool,
}

impl From<LockSummary> for Seen {
    fn from(lock: LockSummary) -> Self {
        Self {
            waiting: lock.waiting,
            oldest_wait: lock.oldest_wait(),
            lease_left: lock.lease_left(),
            age: lock.age(),
            waited: lock.waited(),
            dead: lock.is_dead(),
            id: lock.conversation_id,
            serving: lock.serving,
        }
    }
}

/// A queue, ticket by ticket.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    pub(crate) places: Vec<Place>,
    /// Of its key; a key without an end is left over from something.
    pub(crate) time_to_live: Option<Duration>,
}

/// A ticket in a queue.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) ticket: Ticket,
    /// Whether its owner's process is there, if that is known.
    pub(crate) alive: Option<bool>,
    pub(crate) age: Duration,
    /// Until it dies.
    pub(crate) left: Duration,
    pub(crate) dead: bool,
}

impl From<Inspection> for Queue {
    fn from(inspection: Inspection) -> Self {
        let place = |ticket: &Ticket| Place {
            alive: inspection.is_alive(ticket),
            age: inspection.age(ticket),
            left: ticket.expires - inspection.now,
            dead: ticket.has_expired(inspection.now),
            ticket: ticket.clone(),
        };
        Self {
            places: inspection.lock.tickets().map(place).collect(),
            time_to_live: inspection.time_to_live,
        }
    }
}

/// How far a ticket has come, for people. That it is dead says more.
pub(crate) fn state(ticket: &Ticket, dead: bool) -> &'static str {
    match ticket.state {
        _ if dead => "dead",
        TicketState::Waiting => "waiting",
        TicketState::Promoted => "called",
        TicketState::Claimed => "holds",
    }
}
