//! Locks that look like real ones, for tests.

use std::time::Duration;

use lock_store::{ClientId, ConversationId, FencingToken, Owner, Ticket, TicketState, Timestamp};

use super::lock::{Place, Queue, Seen};
use super::model::Look;

pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

pub(crate) fn ticket(number: u64, token: u64) -> Ticket {
    Ticket {
        number,
        expires: Timestamp::from_micros(token) + seconds(60.0),
        fencing_token: FencingToken::new(token),
        owner: Some(Owner {
            client: ClientId::from_u64(0xbeef),
            sequence: number,
        }),
        lifetime: seconds(60.0),
        state: TicketState::Claimed,
    }
}

/// A lock with so many waiting, held for a second by somebody who had waited
/// for 0.2 s.
pub(crate) fn lock(id: &str, number: u64, token: u64, waiting: u64) -> Seen {
    Seen {
        id: ConversationId::new(id).unwrap(),
        serving: ticket(number, token),
        waiting,
        oldest_wait: seconds(if waiting > 0 { 0.5 } else { 0.0 }),
        lease_left: seconds(59.0),
        age: seconds(1.2),
        waited: Some(seconds(0.2)),
        dead: false,
    }
}

pub(crate) fn look(at: f64, locks: Vec<Seen>) -> Look {
    Look {
        at: seconds(at),
        took: seconds(0.003),
        locks,
        damaged: Vec::new(),
    }
}

pub(crate) fn place(number: u64, state: TicketState, alive: Option<bool>) -> Place {
    Place {
        ticket: Ticket {
            state,
            ..ticket(number, 1_764_000_000_000_000 + number)
        },
        alive,
        age: seconds(1.5),
        left: seconds(58.5),
        dead: false,
    }
}

pub(crate) fn queue(places: Vec<Place>) -> Queue {
    Queue {
        places,
        time_to_live: Some(seconds(59.4)),
    }
}
