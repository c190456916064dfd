//! One acquisition that somebody watches: waiting, then held, then over.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::alarm::AlarmKey;
use crate::error::LockError;
use crate::identity::{ConversationId, FencingToken, Owner};
use crate::store::Leaving;
use crate::sync::Mutex;
use crate::telemetry;

/// The number until the ticket is issued: last in line.
const UNKNOWN: u64 = u64::MAX;

/// An acquisition as this process sees it.
///
/// The future that waits, the guard that holds, and the store that looks and
/// extends all share it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) conversation: ConversationId,
    pub(crate) owner: Owner,
    /// When the ticket was asked for.
    pub(crate) started: Instant,
    /// When its owner gives up waiting; `None` for never.
    pub(crate) wait_until: Option<Instant>,
    pub(crate) keep_alive: bool,
    progress: Mutex<Progress>,
    /// Tells everybody in `LockGuard::lost` that the lease changed.
    pub(crate) lease_changed: Notify,
}

#[derive(Debug)]
struct Progress {
    phase: Phase,
    number: u64,
    fencing_token: FencingToken,
    ahead: u64,
    lifetime: Duration,
    waiter: Option<Waker>,
    renewal: Option<AlarmKey>,
}

#[derive(Debug)]
enum Phase {
    Waiting,
    Held {
        asked: Instant,
        until: Instant,
    },
    /// Lost, gone, timed out, or refused by the storage.
    Failed(LockError),
    /// Given back by its owner.
    Retired,
}

/// How a lease stands.
#[derive(Debug)]
pub(crate) enum Lease {
    /// It runs until then, if it is not extended.
    Until(Instant),
    Over(LockError),
}

/// What a waiter gets when its turn has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    pub(crate) number: u64,
    pub(crate) fencing_token: FencingToken,
    /// When the lease was asked for.
    pub(crate) asked: Instant,
}

impl Entry {
    pub(crate) fn waiting(
        conversation: ConversationId,
        owner: Owner,
        started: Instant,
        wait_until: Option<Instant>,
        lifetime: Duration,
        keep_alive: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            conversation,
            owner,
            started,
            wait_until,
            keep_alive,
            progress: Mutex::new(Progress {
                phase: Phase::Waiting,
                number: UNKNOWN,
                fencing_token: FencingToken::default(),
                ahead: 0,
                lifetime,
                waiter: None,
                renewal: None,
            }),
            lease_changed: Notify::new(),
        })
    }

    /// The ticket is there, and others are ahead of it.
    pub(crate) fn set_ticket(&self, number: u64, token: FencingToken, ahead: u64) {
        let mut progress = self.progress.lock();
        progress.number = number;
        progress.fencing_token = token;
        progress.ahead = ahead;
    }

    /// The lease runs anew, from `asked` on. Ignored when it is over: what was
    /// once said to be lost stays lost.
    pub(crate) fn serve(&self, number: u64, token: FencingToken, asked: Instant) {
        let mut progress = self.progress.lock();
        let until = asked + progress.lifetime;
        match progress.phase {
            Phase::Waiting => {
                progress.number = number;
                progress.fencing_token = token;
                progress.ahead = 0;
                progress.phase = Phase::Held { asked, until };
                let waiter = progress.waiter.take();
                drop(progress);
                if let Some(waiter) = waiter {
                    waiter.wake();
                }
            }
            Phase::Held { asked: before, .. } if before <= asked => {
                progress.phase = Phase::Held { asked, until };
                drop(progress);
                self.lease_changed.notify_waiters();
            }
            Phase::Held { .. } | Phase::Failed(_) | Phase::Retired => {}
        }
    }

    /// Ends it with an error, unless it is over; gives back the alarm that is
    /// set for it.
    #[must_use]
    pub(crate) fn fail(&self, error: LockError) -> Option<AlarmKey> {
        let mut progress = self.progress.lock();
        if !matches!(progress.phase, Phase::Waiting | Phase::Held { .. }) {
            return None;
        }
        progress.phase = Phase::Failed(error);
        let (waiter, renewal) = (progress.waiter.take(), progress.renewal.take());
        drop(progress);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        self.lease_changed.notify_waiters();
        renewal
    }

    /// Its owner gives the ticket back, so that nobody waits or holds any
    /// more; gives back the alarm that is set for it.
    #[must_use]
    pub(crate) fn retire(&self) -> Option<AlarmKey> {
        let mut progress = self.progress.lock();
        progress.phase = Phase::Retired;
        progress.renewal.take()
    }

    /// Waits for the turn. One future at a time.
    pub(crate) fn poll_served(&self, cx: &mut Context<'_>) -> Poll<Result<Served, LockError>> {
        let mut progress = self.progress.lock();
        match &progress.phase {
            Phase::Waiting => {
                let known = progress.waiter.as_ref();
                if known.is_none_or(|known| !known.will_wake(cx.waker())) {
                    progress.waiter = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            &Phase::Held { asked, .. } => Poll::Ready(Ok(Served {
                number: progress.number,
                fencing_token: progress.fencing_token,
                asked,
            })),
            Phase::Failed(error) => Poll::Ready(Err(error.clone())),
            Phase::Retired => Poll::Pending,
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.progress.lock().phase, Phase::Waiting)
    }

    pub(crate) fn lease(&self) -> Lease {
        match &self.progress.lock().phase {
            Phase::Held { until, .. } => Lease::Until(*until),
            Phase::Failed(error) => Lease::Over(error.clone()),
            // No guard exists for it, not yet or no more.
            Phase::Waiting | Phase::Retired => Lease::Until(self.started),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.progress.lock().number
    }

    /// The number on the ticket, once it is issued.
    pub(crate) fn known_number(&self) -> Option<u64> {
        Some(self.number()).filter(|number| *number != UNKNOWN)
    }

    /// Its ticket, to be given back by itself.
    pub(crate) fn leaving(&self) -> Leaving {
        Leaving::by_itself(self.owner, self.known_number(), self.lifetime())
    }

    pub(crate) fn fencing_token(&self) -> FencingToken {
        self.progress.lock().fencing_token
    }

    pub(crate) fn ahead(&self) -> u64 {
        self.progress.lock().ahead
    }

    pub(crate) fn set_ahead(&self, ahead: u64) {
        self.progress.lock().ahead = ahead;
    }

    pub(crate) fn lifetime(&self) -> Duration {
        self.progress.lock().lifetime
    }

    pub(crate) fn set_lifetime(&self, lifetime: Duration) {
        self.progress.lock().lifetime = lifetime;
    }

    /// Remembers the alarm of the next renewal; gives back the one before.
    #[must_use]
    pub(crate) fn set_renewal(&self, renewal: AlarmKey) -> Option<AlarmKey> {
        self.progress.lock().renewal.replace(renewal)
    }

    /// Forgets the alarm, because it rang or because it is cancelled.
    #[must_use]
    pub(crate) fn take_renewal(&self) -> Option<AlarmKey> {
        self.progress.lock().renewal.take()
    }
}

/// Counts an entry as waiting for as long as it lives.
#[derive(Debug)]
pub(crate) struct CountedAsWaiting(());

impl CountedAsWaiting {
    pub(crate) fn begin(entry: &Entry) -> Self {
        telemetry::waiting(&entry.conversation, entry.number(), entry.ahead());
        Self(())
    }
}

impl Drop for CountedAsWaiting {
    fn drop(&mut self) {
        telemetry::no_longer_waiting();
    }
}
