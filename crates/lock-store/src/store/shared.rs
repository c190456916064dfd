//! What all locks of a store share: the storage, the lines, the timers, and
//! the work that goes on in the background.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::background::Background;
use crate::alarm::Alarms;
use crate::backend::{Backend, Finish, Finished, Listener, Phase, Step, TicketName};
use crate::config::Timing;
use crate::error::{LockError, LockErrorKind};
use crate::identity::{ClientId, ConversationId, Owner};
use crate::telemetry;
use crate::wait::{Call, Lines, Watched};

/// A ticket that is given back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaving {
    pub(crate) ticket: TicketName,
    pub(crate) number: Option<u64>,
    /// How long to go on trying.
    pub(crate) patience: Option<Duration>,
}

impl Leaving {
    /// The caller waits for it.
    #[inline]
    pub(crate) fn now(owner: Owner, number: Option<u64>) -> Self {
        Self {
            ticket: TicketName::Owner(owner),
            number,
            patience: None,
        }
    }

    /// Nobody waits for it. After a lifetime it would be dead, should it be
    /// served.
    #[inline]
    pub(crate) fn by_itself(owner: Owner, number: Option<u64>, lifetime: Duration) -> Self {
        Self {
            ticket: TicketName::Owner(owner),
            number,
            patience: Some(lifetime),
        }
    }

    /// No ticket: only the head of the queue is seen after.
    pub(crate) fn nobody() -> Self {
        Self::named(TicketName::Nobodys)
    }

    pub(crate) fn named(ticket: TicketName) -> Self {
        Self {
            ticket,
            number: None,
            patience: None,
        }
    }
}

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
    /// How often it became able to again.
    resumptions: AtomicU64,
    closed: AtomicBool,
    /// How far Redis is, if it could not be reached at the start.
    fallback: Option<Arc<Phase>>,
}

impl Shared {
    pub(crate) fn new(
        backend: Box<dyn Backend>,
        timing: Timing,
        fallback: Option<Arc<Phase>>,
    ) -> Arc<Self> {
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
            resumptions: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            fallback,
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

    pub(crate) fn is_degraded(&self) -> bool {
        self.fallback
            .as_ref()
            .is_some_and(|phase| phase.is_degraded())
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    #[inline]
    pub(crate) fn finish(&self, id: &ConversationId, leaving: Leaving) -> Step<Finished> {
        let finish = Finish {
            ticket: leaving.ticket,
            number: leaving.number,
            claim_window: self.timing.claim_window,
            patience: leaving.patience,
        };
        self.backend.finish(id, &finish)
    }

    /// Gives a ticket back without waiting for it to be done. A `holder` that
    /// has not been told so yet has lost its lock if the ticket is not there.
    pub(crate) fn finish_in_background(&self, id: &ConversationId, leaving: Leaving, holder: bool) {
        let operation = telemetry::operation("finish");
        match self.finish(id, leaving) {
            Step::Done(answer) => {
                drop(operation);
                self.on_finished_in_background(id, answer, Call::AtOnce, holder);
            }
            Step::Pending(reply) => {
                let (store, id) = (self.me.clone(), id.clone());
                self.background.spawn(async move {
                    let answer = reply.await;
                    drop(operation);
                    match store.upgrade() {
                        Some(store) => {
                            store.on_finished_in_background(&id, answer, Call::CanBeLost, holder);
                        }
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
        call: Call,
        holder: bool,
    ) {
        match answer {
            Ok(finished) => {
                self.watch_promoted(id, &finished, call);
                if holder && !finished.found {
                    telemetry::lost(&LockError::lost(id));
                }
            }
            Err(error) => telemetry::release_failed(id, &error),
        }
    }

    pub(crate) fn set_pushes(&self, coming: bool) {
        if coming {
            self.resumptions.fetch_add(1, Ordering::AcqRel);
        }
        self.pushes.store(coming, Ordering::Release);
    }

    /// How often wake-ups came again after they may have been lost. A ticket
    /// that is issued meanwhile may have missed its call.
    pub(crate) fn resumptions(&self) -> u64 {
        self.resumptions.load(Ordering::Acquire)
    }

    /// When to look, if the head would be dead at `head_dies_at`.
    pub(crate) fn next_look(&self, head_dies_at: Instant) -> Instant {
        if self.pushes.load(Ordering::Acquire) {
            return head_dies_at;
        }
        head_dies_at.min(Instant::now() + self.poll_time())
    }

    /// The longest time between two looks when no wake-up can arrive: the wait
    /// time, unless a client that looks so seldom would be taken for dead.
    pub(crate) fn poll_time(&self) -> Duration {
        let window = self.timing.claim_window.min(self.timing.lock_lifetime);
        self.timing.wait_time.min(window / 3)
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
