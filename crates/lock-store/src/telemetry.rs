//! What the store reports: `tracing` events under the target `lock_store`,
//! and, with the feature `metrics`, metrics with Prometheus names.
//!
//! Every event and every metric is made here, so that the names stand in one
//! place.

#[cfg(feature = "metrics")]
mod describe;

use std::time::Duration;

use tracing::{debug, info, warn};

use crate::error::LockError;
use crate::identity::ConversationId;
use crate::ticket::Changes;

#[cfg(feature = "metrics")]
pub use describe::describe_metrics;

const TARGET: &str = "lock_store";

/// Why a waiter looked at its ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WokenBy {
    Push,
    Timer,
    Reconnect,
}

pub(crate) fn issued(id: &ConversationId, number: u64) {
    debug!(target: TARGET, conversation = %id, ticket = number, "issued ticket");
}

pub(crate) fn waiting(id: &ConversationId, number: u64, ahead: u64) {
    debug!(target: TARGET, conversation = %id, ticket = number, ahead, "waiting");
    metric::waiting(1.0);
}

pub(crate) fn no_longer_waiting() {
    metric::waiting(-1.0);
}

pub(crate) fn acquired(
    id: &ConversationId,
    number: u64,
    contended: bool,
    waited: impl FnOnce() -> Duration,
) {
    debug!(target: TARGET, conversation = %id, ticket = number, contended, "acquired lock");
    metric::acquired(contended, waited);
}

pub(crate) fn released(id: &ConversationId, number: u64, held: impl FnOnce() -> Duration) {
    debug!(target: TARGET, conversation = %id, ticket = number, "released lock");
    metric::released(held);
}

pub(crate) fn failed(error: &LockError) {
    debug!(target: TARGET, %error, "did not acquire lock");
    metric::failed(error.kind().as_str());
}

pub(crate) fn lost(error: &LockError) {
    warn!(target: TARGET, %error, "lost lock");
    metric::lost();
}

pub(crate) fn release_failed(id: &ConversationId, error: &LockError) {
    warn!(target: TARGET, conversation = %id, %error, "could not give the ticket back; it will expire");
}

pub(crate) fn look_failed(id: &ConversationId, error: &LockError) {
    warn!(target: TARGET, conversation = %id, %error, "could not look at the ticket; trying again");
}

pub(crate) fn max_hold_reached(id: &ConversationId) {
    warn!(target: TARGET, conversation = %id, "a lock was held for as long as max_hold allows: its lease is extended no more");
    metric::max_hold();
}

pub(crate) fn deleted(id: &ConversationId) {
    debug!(target: TARGET, conversation = %id, "deleted lock");
}

pub(crate) fn expired(id: &ConversationId, changes: &Changes) {
    for ticket in &changes.expired {
        debug!(target: TARGET, conversation = %id, ticket = ticket.number, "dropped expired ticket");
    }
    if let Some(client) = changes.abandoned.first().and_then(|ticket| ticket.owner) {
        let tickets = changes.abandoned.len();
        warn!(target: TARGET, conversation = %id, client = %client.client, tickets, "dropped the tickets of a dead client");
    }
    metric::expired(changes.expired.len() + changes.abandoned.len());
}

pub(crate) fn woken(by: WokenBy) {
    metric::woken(match by {
        WokenBy::Push => "push",
        WokenBy::Timer => "timer",
        WokenBy::Reconnect => "reconnect",
    });
}

pub(crate) fn pushes(coming: bool) {
    if coming {
        info!(target: TARGET, "wake-ups are coming");
    } else {
        info!(target: TARGET, "no wake-ups are coming; looking every wait_time");
    }
}

pub(crate) fn pushes_refused(error: &str) {
    warn!(target: TARGET, error, "the server refuses the subscription for wake-ups; looking every wait_time instead");
}

pub(crate) fn prefix_left_out(prefix: &str) {
    warn!(target: TARGET, prefix, "in the layout of Rasa a prefix that is not alphanumeric is left out, as Rasa does: the keys are lock:<id>");
}

pub(crate) fn strange_call(message: &str) {
    warn!(target: TARGET, message, "not a call of ours on our channel");
}

pub(crate) fn connected(again: bool) {
    if again {
        info!(target: TARGET, "connected to Redis again");
    } else {
        info!(target: TARGET, "connected to Redis");
    }
    metric::connected(again);
}

pub(crate) fn disconnected() {
    warn!(target: TARGET, "lost the connection to Redis; connecting again");
    metric::disconnected();
}

pub(crate) fn closed() {
    metric::disconnected();
}

pub(crate) fn connecting_failed(error: &str) {
    warn!(target: TARGET, error, "cannot connect to Redis; trying again");
}

pub(crate) fn degraded(error: &LockError) {
    warn!(target: TARGET, %error, "Redis cannot be reached: the locks are in the memory of this process, and other processes do not see them, until it can");
    metric::degraded(true);
}

pub(crate) fn still_degraded(error: &LockError) {
    warn!(target: TARGET, %error, "Redis can be reached, but not used: locks stay in memory");
}

pub(crate) fn healed() {
    warn!(target: TARGET, "all locks are in Redis now");
    metric::degraded(false);
}

/// Whether [`operation`] measures anything.
pub(crate) const IS_MEASURED: bool = cfg!(feature = "metrics");

/// Measures one call into the backend, until it is dropped.
#[must_use]
pub(crate) fn operation(name: &'static str) -> impl Sized + Send {
    metric::Operation::begin(name)
}

#[cfg(feature = "metrics")]
mod metric {
    use std::time::Duration;

    use metrics::{counter, gauge, histogram};
    use tokio::time::Instant;

    pub(super) fn waiting(change: f64) {
        gauge!("lock_store_waiting").increment(change);
    }

    pub(super) fn acquired(contended: bool, waited: impl FnOnce() -> Duration) {
        let contended = if contended { "true" } else { "false" };
        counter!("lock_store_acquired_total", "contended" => contended).increment(1);
        histogram!("lock_store_acquire_duration_seconds", "contended" => contended)
            .record(waited());
        gauge!("lock_store_held").increment(1.0);
    }

    pub(super) fn released(held: impl FnOnce() -> Duration) {
        histogram!("lock_store_hold_duration_seconds").record(held());
        gauge!("lock_store_held").decrement(1.0);
    }

    pub(super) fn failed(reason: &'static str) {
        counter!("lock_store_failed_total", "reason" => reason).increment(1);
    }

    pub(super) fn lost() {
        counter!("lock_store_lost_total").increment(1);
    }

    pub(super) fn expired(tickets: usize) {
        counter!("lock_store_expired_total").increment(tickets as u64);
    }

    pub(super) fn woken(by: &'static str) {
        counter!("lock_store_wakeups_total", "by" => by).increment(1);
    }

    pub(super) fn connected(again: bool) {
        gauge!("lock_store_connected").increment(1.0);
        if again {
            counter!("lock_store_reconnects_total").increment(1);
        }
    }

    pub(super) fn disconnected() {
        gauge!("lock_store_connected").decrement(1.0);
    }

    pub(super) fn max_hold() {
        counter!("lock_store_max_hold_total").increment(1);
    }

    pub(super) fn degraded(degraded: bool) {
        gauge!("lock_store_degraded").set(if degraded { 1.0 } else { 0.0 });
    }

    pub(super) struct Operation(&'static str, Instant);

    impl Operation {
        pub(super) fn begin(name: &'static str) -> Self {
            Self(name, Instant::now())
        }
    }

    impl Drop for Operation {
        fn drop(&mut self) {
            histogram!("lock_store_operation_duration_seconds", "operation" => self.0)
                .record(self.1.elapsed());
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod metric {
    use std::time::Duration;

    pub(super) fn waiting(_change: f64) {}
    pub(super) fn acquired(_contended: bool, _waited: impl FnOnce() -> Duration) {}
    pub(super) fn released(_held: impl FnOnce() -> Duration) {}
    pub(super) fn failed(_reason: &'static str) {}
    pub(super) fn lost() {}
    pub(super) fn expired(_tickets: usize) {}
    pub(super) fn woken(_by: &'static str) {}
    pub(super) fn max_hold() {}

    pub(super) fn connected(_again: bool) {}
    pub(super) fn disconnected() {}
    pub(super) fn degraded(_degraded: bool) {}

    pub(super) struct Operation;

    impl Operation {
        pub(super) fn begin(_name: &'static str) -> Self {
            Self
        }
    }
}
