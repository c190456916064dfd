//! How many tickets were served between two looks.
//!
//! In a queue that was not empty in between, the numbers of its tickets rise by
//! one; in a new queue they start at 0. So the number of the head says how many
//! were the head before it. A lock that came and went between two looks left
//! nothing that could be seen; a ticket that left while it waited cannot be
//! told from one that was served.

use std::ops::AddAssign;
use std::time::Duration;

use lock_store::{FencingToken, TicketState};

use super::{Rates, Seen};

/// The head of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    token: FencingToken,
    number: u64,
    /// Whether it is held, rather than called and not answered yet.
    held: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) acquired: u64,
    /// Those of them that had to wait for another ticket.
    pub(super) handed_off: u64,
}

impl Mark {
    pub(super) fn of(lock: &Seen) -> Self {
        let head = &lock.serving;
        Self {
            token: head.fencing_token,
            number: head.number,
            // One in Rasa's manner is never called, only served.
            held: head.state == TicketState::Claimed || head.owner.is_none(),
        }
    }

    /// What was served since the queue was last seen, if it was there then.
    pub(super) fn since(self, before: Option<&Self>) -> Served {
        let total = self.total();
        match before {
            // The same queue, or a new one that has already grown longer, in
            // which even more were served.
            Some(before) if self.is_later_than(*before) => {
                let before = before.total();
                Served {
                    acquired: total.acquired.saturating_sub(before.acquired),
                    handed_off: total.handed_off.saturating_sub(before.handed_off),
                }
            }
            _ => total,
        }
    }

    fn is_later_than(self, before: Self) -> bool {
        self.token == before.token || (self.token > before.token && self.number > before.number)
    }

    /// Since the queue was empty. The first in it did not have to wait.
    fn total(self) -> Served {
        let acquired = self.number.saturating_add(u64::from(self.held));
        Served {
            acquired,
            handed_off: acquired.saturating_sub(1),
        }
    }

    /// How long the head had to wait, unless it was seen holding before.
    ///
    /// A lease that was extended since looks like a longer wait, but by no more
    /// than the time between two looks.
    pub(super) fn wait(self, lock: &Seen, before: Option<&Self>) -> Option<Duration> {
        let seen = before.is_some_and(|before| before.token == self.token && before.held);
        match self.number {
            _ if seen || !self.held => None,
            0 => Some(Duration::ZERO),
            // The lease of one in Rasa's manner runs from its issue on.
            _ if lock.serving.owner.is_none() => None,
            _ => lock.waited,
        }
    }
}

impl Served {
    #[allow(clippy::cast_precision_loss)] // for people
    pub(super) fn per_second(self, interval: Duration) -> Rates {
        let seconds = interval.as_secs_f64().max(0.001);
        Rates {
            acquired: self.acquired as f64 / seconds,
            handed_off: self.handed_off as f64 / seconds,
        }
    }
}

impl AddAssign for Served {
    fn add_assign(&mut self, other: Self) {
        self.acquired = self.acquired.saturating_add(other.acquired);
        self.handed_off = self.handed_off.saturating_add(other.handed_off);
    }
}
