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

/// The conversations that have an alarm set for this.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<HashSet<ConversationId>>);

impl Shared {
    /// Remembers to look again if the step promoted a ticket of another
    /// client. Our own are claimed as they are promoted.
    pub(crate) fn watch_promoted(&self, id: &ConversationId, finished: &Finished) {
        let foreign = finished.next.is_some_and(|next| next.client != self.client);
        if foreign && self.watched.0.lock().insert(id.clone()) {
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
