//! Seeing after tickets of others that we promoted.
//!
//! Waiters look when the head that they know of would die. When it leaves
//! early instead, only the next owner is told; if that one is dead, the others
//! would find out no sooner than the old head would have died. So whoever
//! promoted it looks again when its claim window is over: once per
//! conversation and claim window, however many hand-offs there were.

use std::collections::HashSet;

use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::backend::Finished;
use crate::identity::ConversationId;
use crate::store::{Leaving, Shared};
use crate::sync::Mutex;

/// How the storage calls the owner of a ticket that it promotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Before the step that promoted it is done.
    AtOnce,
    /// In a message that comes later, or not at all.
    CanBeLost,
}

/// The conversations that have an alarm set for this.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<HashSet<ConversationId>>);

impl Shared {
    /// Remembers to look again if the step promoted a ticket of another
    /// client. One of our own is claimed as it is called; unless its `call` can
    /// be lost, and then it is claimed now.
    pub(crate) fn watch_promoted(&self, id: &ConversationId, finished: &Finished, call: Call) {
        let Some(next) = finished.next else {
            return;
        };
        if next.client == self.client {
            if call == Call::CanBeLost
                && let Some(entry) = self.lines.find(id, next)
            {
                self.on_called(&entry);
            }
        } else if self.watched.0.lock().insert(id.clone()) {
            let at = Instant::now() + self.timing.claim_window;
            self.alarms.set(at, Alarm::Watch(id.clone()), &self.me);
        }
    }

    /// A claim window is over: if the ticket was not claimed, this drops it,
    /// and promotes the next, which is watched in turn.
    pub(crate) fn see_after_promoted(&self, id: &ConversationId) {
        self.watched.0.lock().remove(id);
        self.finish_in_background(id, Leaving::nobody(), false);
    }
}
