//! What all locks of a store share: the storage, the lines, the timers, and
//! the work that goes on in the background.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::background::Background;
use crate::alarm::Alarms;
use crate::backend::{Backend, Finish, Finished, Listener, Step, TicketName};
use crate::config::Timing;
use crate::error::{LockError, LockErrorKind};
use crate::identity::{ClientId, ConversationId, Owner};
use crate::telemetry;
use crate::wait::{Lines, Watched};

/// What the locks of a store share.
pub(crate) struct Shared {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) timing: Timing,
    pub(crate) lines: Lines,
    pub(crate) watched: Watched,
    pub(crate) alarms: Alarms,
    pub(crate) background: Background,
    pub(crate) me: Weak<Shared>,
    pub(crate) started: Instant,
    pub(crate) client: ClientId,
    next_sequence: AtomicU64,
    /// Whether the storage is able to wake us.
    pushes: AtomicBool,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(backend: Box<dyn Backend>, timing: Timing) -> Arc<Self> {
        let shared = Arc::new_cyclic(|me: &Weak<Self>| Self {
            backend,
            timing,
            lines: Lines::new(),
            watched: Watched::default(),
            alarms: Alarms::default(),
            background: Background::default(),
            me: me.clone(),
            started: Instant::now(),
            client: ClientId::random(),
            next_sequence: AtomicU64::new(1),
            pushes: AtomicBool::new(true),
            closed: AtomicBool::new(false),
        });
        let listener: Weak<dyn Listener> = shared.me.clone();
        shared.backend.wake_ups(shared.client, listener);
        shared
    }

    #[inline]
    pub(crate) fn next_owner(&self) -> Owner {
        Owner {
            client: self.client,
            sequence: self.next_sequence.fetch_add(1, Ordering::Relaxed),
        }
    }

    #[inline]
    pub(crate) fn check_open(&self) -> Result<(), LockError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(LockError::new(LockErrorKind::Closed));
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    #[inline]
    pub(crate) fn finish(&self, id: &ConversationId, ticket: TicketName) -> Step<Finished> {
        let finish = Finish {
            ticket,
            claim_window: self.timing.claim_window,
        };
        self.backend.finish(id, &finish)
    }

    /// Gives a ticket back without waiting for it to be done. A `holder` that
    /// has not been told so yet has lost its lock if the ticket is not there.
    pub(crate) fn finish_in_background(
        &self,
        id: &ConversationId,
        ticket: TicketName,
        holder: bool,
    ) {
        let operation = telemetry::operation("finish");
        match self.finish(id, ticket) {
            Step::Done(answer) => {
                drop(operation);
                self.on_finished_in_background(id, answer, holder);
            }
            Step::Pending(reply) => {
                let (store, id) = (self.me.clone(), id.clone());
                self.background.spawn(async move {
                    let answer = reply.await;
                    drop(operation);
                    match store.upgrade() {
                        Some(store) => store.on_finished_in_background(&id, answer, holder),
                        None => drop(answer),
                    }
                });
            }
        }
    }

    fn on_finished_in_background(
        &self,
        id: &ConversationId,
        answer: Result<Finished, LockError>,
        holder: bool,
    ) {
        match answer {
            Ok(finished) => {
                self.watch_promoted(id, &finished);
                if holder && !finished.found {
                    telemetry::lost(&LockError::lost(id));
                }
            }
            Err(error) => telemetry::release_failed(id, &error),
        }
    }

    pub(crate) fn set_pushes(&self, coming: bool) {
        self.pushes.store(coming, Ordering::Release);
    }

    /// When to look, if the head would be dead at `head_dies_at`.
    pub(crate) fn next_look(&self, head_dies_at: Instant) -> Instant {
        if self.pushes.load(Ordering::Acquire) {
            return head_dies_at;
        }
        head_dies_at.min(Instant::now() + self.timing.wait_time)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.alarms.stop();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}
