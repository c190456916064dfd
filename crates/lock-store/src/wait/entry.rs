//! One acquisition that somebody watches: waiting, then held, then over.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::alarm::AlarmKey;
use crate::error::{LockError, LockErrorKind};
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
    /// Held by whoever extends the lease: of two extensions at once nobody
    /// could say which one counts.
    pub(crate) extending: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Progress {
    phase: Phase,
    look: Look,
    /// Why the last look had no answer.
    trouble: Option<LockError>,
    number: u64,
    fencing_token: FencingToken,
    ahead: u64,
    lifetime: Duration,
    waiter: Option<Waker>,
    renewal: Option<AlarmKey>,
}

/// Whether somebody looks at the ticket just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    None,
    UnderWay,
    /// Its turn was called meanwhile, and the answer may be from before.
    Again,
}

#[derive(Debug)]
enum Phase {
    /// The ticket is being asked for: nobody looks at it yet.
    Asked,
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
                phase: Phase::Asked,
                look: Look::None,
                trouble: None,
                number: UNKNOWN,
                fencing_token: FencingToken::default(),
                ahead: 0,
                lifetime,
                waiter: None,
                renewal: None,
            }),
            lease_changed: Notify::new(),
            extending: Arc::default(),
        })
    }

    /// The ticket is there, and others are ahead of it. The error, if it is
    /// over already.
    pub(crate) fn set_ticket(
        &self,
        number: u64,
        token: FencingToken,
        ahead: u64,
    ) -> Result<(), LockError> {
        let mut progress = self.progress.lock();
        progress.number = number;
        progress.fencing_token = token;
        match &progress.phase {
            Phase::Asked => progress.phase = Phase::Waiting,
            Phase::Failed(error) => return Err(error.clone()),
            Phase::Waiting | Phase::Held { .. } | Phase::Retired => return Ok(()),
        }
        progress.ahead = ahead;
        Ok(())
    }

    /// The lease runs for `lifetime` from `asked` on. Ignored when it is over:
    /// what was once said to be lost stays lost.
    pub(crate) fn serve(
        &self,
        number: u64,
        token: FencingToken,
        asked: Instant,
        lifetime: Duration,
    ) {
        let mut progress = self.progress.lock();
        let until = asked + lifetime;
        progress.trouble = None;
        match progress.phase {
            Phase::Asked | Phase::Waiting => {
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

    /// A lease of `lifetime` from `asked` on is being asked for. Should the
    /// answer be lost, it may be no longer than that.
    pub(crate) fn expect(&self, asked: Instant, lifetime: Duration) -> bool {
        let mut progress = self.progress.lock();
        if let Phase::Held { until, .. } = &mut progress.phase
            && asked + lifetime < *until
        {
            *until = asked + lifetime;
            drop(progress);
            self.lease_changed.notify_waiters();
            return true;
        }
        false
    }

    /// Whether somebody may look now: nobody else does, and its ticket may be
    /// there. `called` says that its turn has come.
    pub(crate) fn begin_look(&self, called: bool) -> bool {
        let mut progress = self.progress.lock();
        let may_look = match progress.phase {
            Phase::Asked => called,
            Phase::Waiting => true,
            Phase::Held { .. } | Phase::Failed(_) | Phase::Retired => false,
        };
        match progress.look {
            Look::None if may_look => progress.look = Look::UnderWay,
            Look::UnderWay if called => {
                progress.look = Look::Again;
                return false;
            }
            Look::None | Look::UnderWay | Look::Again => return false,
        }
        may_look
    }

    /// The look is over; says whether its turn was called meanwhile.
    pub(crate) fn end_look(&self) -> bool {
        let look = &mut self.progress.lock().look;
        std::mem::replace(look, Look::None) == Look::Again
    }

    /// Remembers why a look had no answer.
    pub(crate) fn set_trouble(&self, trouble: LockError) {
        self.progress.lock().trouble = Some(trouble);
    }

    /// Its owner has waited too long: ends it, unless its turn has come by
    /// now.
    pub(crate) fn time_out(&self) -> Option<LockError> {
        let mut progress = self.progress.lock();
        let error = match progress.phase {
            Phase::Asked => LockError::unavailable("no answer to the request for a ticket"),
            Phase::Waiting => {
                let error = LockError::new(LockErrorKind::TimedOut)
                    .after_waiting(self.started.elapsed(), progress.ahead);
                match progress.trouble.take() {
                    Some(trouble) => error.with_source(trouble),
                    None => error,
                }
            }
            Phase::Held { .. } | Phase::Failed(_) | Phase::Retired => return None,
        };
        let error = error.for_conversation(&self.conversation);
        progress.phase = Phase::Failed(error.clone());
        let waiter = progress.waiter.take();
        drop(progress);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        Some(error)
    }

    /// When its owner gives up. Whoever does not wait at all still waits for
    /// the answer to its request.
    pub(crate) fn gives_up_at(&self) -> Option<Instant> {
        let phase = &self.progress.lock().phase;
        self.wait_until.filter(|until| match phase {
            Phase::Asked => *until > self.started,
            Phase::Waiting => true,
            Phase::Held { .. } | Phase::Failed(_) | Phase::Retired => false,
        })
    }

    /// Has its future polled again.
    pub(crate) fn wake(&self) {
        if let Some(waiter) = self.progress.lock().waiter.take() {
            waiter.wake();
        }
        self.lease_changed.notify_waiters();
    }

    /// Ends it with an error, unless it is over; gives back the alarm that is
    /// set for it.
    #[must_use]
    pub(crate) fn fail(&self, error: LockError) -> Option<AlarmKey> {
        let mut progress = self.progress.lock();
        if matches!(progress.phase, Phase::Failed(_) | Phase::Retired) {
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
            Phase::Asked | Phase::Waiting => {
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

    /// Whether its ticket is there and others are ahead, as far as is known.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.progress.lock().phase, Phase::Waiting)
    }

    /// Whether its ticket is there, and its turn had come when this was asked.
    pub(crate) fn is_held_since(&self, asked: Instant) -> bool {
        match self.progress.lock().phase {
            Phase::Held { asked: since, .. } => since <= asked,
            _ => false,
        }
    }

    /// Whether its turn has come and it is not over.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.progress.lock().phase, Phase::Held { .. })
    }

    /// Whether it is being asked for, and nothing is known of its ticket.
    pub(crate) fn is_asked_for(&self) -> bool {
        matches!(self.progress.lock().phase, Phase::Asked)
    }

    pub(crate) fn lease(&self) -> Lease {
        match &self.progress.lock().phase {
            Phase::Held { until, .. } => Lease::Until(*until),
            Phase::Failed(error) => Lease::Over(error.clone()),
            // No guard exists for it, not yet or no more.
            Phase::Asked | Phase::Waiting | Phase::Retired => Lease::Until(self.started),
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
