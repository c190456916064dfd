//! One acquisition, from its ticket to its end: the state machine that waiting
//! futures, guards and places are skins of.
//!
//! | state | what is known | what it has |
//! |---|---|---|
//! | *requested* | nothing yet: the ticket is being asked for | a [request](crate::request); no [`Acquisition`] |
//! | *waiting* | others are ahead | its place in the [line](crate::line) of its conversation |
//! | *called* | its turn has come, and the claim is under way | a [`Check`] |
//! | *held* | the lease runs until a deadline | a guard, and a timer if it is kept alive |
//! | *ended* | released by its owner; or lost, gone, timed out, refused | the error, if any |
//!
//! ```text
//!  requested ──► waiting ──► called ──► held ──► ended
//!      │            │           ▲         ▲
//!      │            │ check     │         │ the release before it, in the same
//!      │            └───────────┘         │ process: no call, no claim
//!      └─── nobody ahead ─────────────────┘
//! ```
//!
//! Every state but the last may end; what has ended stays so. An acquisition
//! that is neither contended nor asked for anything more than its release has no
//! [`Acquisition`] at all: its guard knows what there is to know.
//!
//! **Why a deadline is safe.** It is counted on the monotonic clock from before
//! the request left, so the holder believes itself expired no later than the
//! storage does.
//!
//! One mutex per acquisition. While it is held no other lock is taken, and no
//! waker is called.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{LockError, LockErrorKind};
use crate::identity::{ConversationId, FencingToken, Owner};
use crate::sync::Mutex;
use crate::timers::TimerKey;

/// A ticket, as it was issued.
#[derive(Debug, Clone)]
pub(crate) struct Issuance {
    pub(crate) conversation: ConversationId,
    pub(crate) owner: Owner,
    pub(crate) number: u64,
    pub(crate) fencing_token: FencingToken,
    /// The token of the ticket that was right before it.
    pub(crate) behind: Option<FencingToken>,
    /// When it was asked for.
    pub(crate) requested: Instant,
}

/// How a lease is extended by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renewal {
    /// For how long at most, from the turn on.
    pub(crate) max_hold: Option<Duration>,
}

/// An acquisition whose ticket was issued.
#[derive(Debug)]
pub(crate) struct Acquisition {
    pub(crate) ticket: Issuance,
    /// When its owner gives up waiting; `None` for never.
    pub(crate) wait_until: Option<Instant>,
    /// Whether its lease is extended by itself.
    pub(crate) keep_alive: Option<Renewal>,
    /// Whether it was ever claimed: its ticket is not as it was issued.
    is_claimed: AtomicBool,
    state: Mutex<State>,
    /// Tells all in `LockGuard::lost` that the lease changed.
    pub(crate) lease_changed: Notify,
    /// Held while the lease is extended: of two extensions at once it could not
    /// be said which one counts.
    pub(crate) extending: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    check: Check,
    /// How many are ahead, as far as is known.
    ahead: u64,
    lifetime: Duration,
    waiter: Option<Waker>,
    renewal: Option<TimerKey>,
    /// Why the last check had no answer.
    last_error: Option<LockError>,
    /// If the lock was handed over to it within this process, and the storage
    /// does not know that yet: the number of the first ticket that was finished
    /// before it, and that may still be in the storage.
    first_finished: Option<u64>,
}

#[derive(Debug)]
enum Stage {
    Waiting,
    Held(Hold),
    /// Lost, gone, timed out, or refused by the storage.
    Failed(LockError),
    /// Given back by its owner.
    Released,
}

/// A lease that runs.
#[derive(Debug, Clone, Copy)]
struct Hold {
    /// When it was asked for.
    asked: Instant,
    until: Instant,
    /// When the first lease began.
    since: Instant,
    /// Whether its holder has asked for another lease, and has no answer.
    is_in_doubt: bool,
}

/// Whether its ticket is being checked: a claim is under way for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    None,
    UnderWay,
    /// Its turn was called meanwhile, and the answer may be from before.
    Again,
}

/// How an acquisition stood when its owner gave it back.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// `None` if its turn had not come.
    pub(crate) lease: Option<Lease>,
    /// The first ticket that goes with it; see `State::first_finished`.
    pub(crate) first_finished: Option<u64>,
    /// Whether the storage may have another lease for it.
    is_in_doubt: bool,
}

impl Standing {
    /// How a ticket stood that was served at once, and never extended.
    pub(crate) fn until(until: Instant) -> Self {
        Self {
            lease: Some(Lease::Until(until)),
            ..Self::default()
        }
    }

    /// Until when the next ticket may have the lock on its lease.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        match self.lease {
            Some(Lease::Until(until)) if !self.is_in_doubt => Some(until),
            _ => None,
        }
    }
}

/// How a lease stands.
#[derive(Debug)]
pub(crate) enum Lease {
    /// It runs until then, if it is not extended.
    Until(Instant),
    Over(LockError),
}

impl Acquisition {
    /// A ticket behind others.
    pub(crate) fn waiting(
        ticket: Issuance,
        wait_until: Option<Instant>,
        lifetime: Duration,
        keep_alive: Option<Renewal>,
        ahead: u64,
    ) -> Arc<Self> {
        Self::new(
            ticket,
            wait_until,
            lifetime,
            keep_alive,
            ahead,
            Stage::Waiting,
        )
    }

    /// A ticket that was served at once.
    pub(crate) fn held(
        ticket: Issuance,
        lifetime: Duration,
        keep_alive: Option<Renewal>,
    ) -> Arc<Self> {
        let hold = Hold {
            asked: ticket.requested,
            until: ticket.requested + lifetime,
            since: ticket.requested,
            is_in_doubt: false,
        };
        Self::new(ticket, None, lifetime, keep_alive, 0, Stage::Held(hold))
    }

    fn new(
        ticket: Issuance,
        wait_until: Option<Instant>,
        lifetime: Duration,
        keep_alive: Option<Renewal>,
        ahead: u64,
        stage: Stage,
    ) -> Arc<Self> {
        Arc::new(Self {
            ticket,
            wait_until,
            keep_alive,
            is_claimed: AtomicBool::new(matches!(stage, Stage::Waiting)),
            state: Mutex::new(State {
                stage,
                check: Check::None,
                ahead,
                lifetime,
                waiter: None,
                renewal: None,
                last_error: None,
                first_finished: None,
            }),
            lease_changed: Notify::new(),
            extending: Arc::default(),
        })
    }

    // Transitions.

    /// waiting, called → held; held → held with a newer lease of `lifetime` from
    /// `asked` on. Ignored when it has ended: what was once said to be lost
    /// stays lost.
    pub(crate) fn serve(&self, asked: Instant, lifetime: Duration) {
        let hold = Hold {
            asked,
            until: asked + lifetime,
            since: asked,
            is_in_doubt: false,
        };
        let mut state = self.state.lock();
        state.last_error = None;
        let was_handed_over = state.first_finished.take().is_some();
        match &mut state.stage {
            waiting @ Stage::Waiting => {
                *waiting = Stage::Held(hold);
                state.ahead = 0;
                let waiter = state.waiter.take();
                drop(state);
                wake(waiter);
            }
            Stage::Held(known) if known.asked <= asked || was_handed_over => {
                let since = known.since;
                *known = Hold { since, ..hold };
                drop(state);
                self.lease_changed.notify_waiters();
            }
            Stage::Held(_) | Stage::Failed(_) | Stage::Released => {}
        }
    }

    /// waiting → held, on the lease of the ticket before it, which runs until
    /// `until` in the storage. `false` if it does not wait any more.
    ///
    /// Its waiter is woken by [`wake`](Self::wake).
    pub(crate) fn hand_over(&self, now: Instant, until: Instant, first_finished: u64) -> bool {
        let mut state = self.state.lock();
        let may_wait = self.wait_until.is_none_or(|limit| now < limit);
        if !matches!(state.stage, Stage::Waiting) || !may_wait {
            return false;
        }
        state.stage = Stage::Held(Hold {
            asked: now,
            until,
            since: now,
            is_in_doubt: false,
        });
        state.ahead = 0;
        state.first_finished = Some(first_finished);
        true
    }

    /// The storage serves the ticket `number`, from which this one has the lock,
    /// until then.
    pub(crate) fn extend_handed_over(&self, until: Instant, number: u64) {
        let mut state = self.state.lock();
        let State {
            stage: Stage::Held(hold),
            first_finished: Some(first_finished),
            ..
        } = &mut *state
        else {
            return;
        };
        *first_finished = number;
        if !hold.is_in_doubt {
            hold.until = hold.until.max(until);
        }
        drop(state);
        self.lease_changed.notify_waiters();
    }

    /// As [`expect`](Self::expect), for a lease that its holder asks for.
    pub(crate) fn begin_extension(&self, asked: Instant, lifetime: Duration) -> bool {
        if let Stage::Held(hold) = &mut self.state.lock().stage {
            hold.is_in_doubt = true;
        }
        self.expect(asked, lifetime)
    }

    /// A lease of `lifetime` from `asked` on is being asked for. Should the
    /// answer be lost, it may be no longer than that.
    pub(crate) fn expect(&self, asked: Instant, lifetime: Duration) -> bool {
        let mut state = self.state.lock();
        if let Stage::Held(hold) = &mut state.stage
            && asked + lifetime < hold.until
        {
            hold.until = asked + lifetime;
            drop(state);
            self.lease_changed.notify_waiters();
            return true;
        }
        false
    }

    /// Whether its ticket may be checked now: it waits, and no check is under
    /// way. `called` says that its turn has come.
    pub(crate) fn begin_check(&self, called: bool) -> bool {
        let mut state = self.state.lock();
        let is_waiting = matches!(state.stage, Stage::Waiting);
        match state.check {
            Check::None if is_waiting => {
                state.check = Check::UnderWay;
                true
            }
            Check::UnderWay if called => {
                state.check = Check::Again;
                false
            }
            Check::None | Check::UnderWay | Check::Again => false,
        }
    }

    /// The check is over; says whether its turn was called meanwhile.
    pub(crate) fn end_check(&self) -> bool {
        let check = &mut self.state.lock().check;
        std::mem::replace(check, Check::None) == Check::Again
    }

    /// waiting → ended, if its owner has waited too long by `now`.
    pub(crate) fn time_out(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let is_over = self.wait_until.is_some_and(|until| until <= now);
        if !is_over || !matches!(state.stage, Stage::Waiting) {
            return false;
        }
        let error = LockError::new(LockErrorKind::TimedOut)
            .after_waiting(now - self.ticket.requested, state.ahead);
        let error = match state.last_error.take() {
            Some(reason) => error.with_source(reason),
            None => error,
        };
        state.stage = Stage::Failed(error.for_conversation(&self.ticket.conversation));
        let waiter = state.waiter.take();
        drop(state);
        wake(waiter);
        true
    }

    /// Any state → ended with an error, unless it has ended; gives back the timer
    /// that is set for it.
    #[must_use]
    pub(crate) fn fail(&self, error: LockError) -> Option<TimerKey> {
        let mut state = self.state.lock();
        if matches!(state.stage, Stage::Failed(_) | Stage::Released) {
            return None;
        }
        state.stage = Stage::Failed(error);
        let (waiter, renewal) = (state.waiter.take(), state.renewal.take());
        drop(state);
        wake(waiter);
        self.lease_changed.notify_waiters();
        renewal
    }

    /// Any state → ended, by its owner; gives back the timer that is set for it,
    /// and how it stood.
    pub(crate) fn release(&self) -> (Option<TimerKey>, Standing) {
        let mut state = self.state.lock();
        let lease = match &state.stage {
            Stage::Waiting | Stage::Released => None,
            known => Some(self.lease_of(known)),
        };
        let is_in_doubt = matches!(state.stage, Stage::Held(hold) if hold.is_in_doubt);
        state.stage = Stage::Released;
        let standing = Standing {
            lease,
            first_finished: state.first_finished,
            is_in_doubt,
        };
        let renewal = state.renewal.take();
        drop(state);
        self.lease_changed.notify_waiters();
        (renewal, standing)
    }

    // What is known.

    /// Waits for the turn. One future at a time.
    pub(crate) fn poll_served(&self, cx: &mut Context<'_>) -> Poll<Result<(), LockError>> {
        let mut state = self.state.lock();
        match &state.stage {
            Stage::Waiting => {
                let known = state.waiter.as_ref();
                if known.is_none_or(|known| !known.will_wake(cx.waker())) {
                    state.waiter = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Stage::Held(_) => Poll::Ready(Ok(())),
            Stage::Failed(error) => Poll::Ready(Err(error.clone())),
            Stage::Released => Poll::Pending,
        }
    }

    /// Has its future polled again, and all who wait for a loss.
    pub(crate) fn wake(&self) {
        let waiter = self.state.lock().waiter.take();
        wake(waiter);
        self.lease_changed.notify_waiters();
    }

    /// When its owner gives up waiting, if it still waits.
    pub(crate) fn gives_up_at(&self) -> Option<Instant> {
        self.wait_until.filter(|_| self.is_waiting())
    }

    /// Whether others are ahead, as far as is known.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state.lock().stage, Stage::Waiting)
    }

    /// Whether its turn has come and it has not ended.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.state.lock().stage, Stage::Held(_))
    }

    /// Whether its owner gave it back.
    pub(crate) fn is_released(&self) -> bool {
        matches!(self.state.lock().stage, Stage::Released)
    }

    /// Whether its turn had come when this was asked.
    pub(crate) fn is_held_since(&self, asked: Instant) -> bool {
        matches!(self.state.lock().stage, Stage::Held(hold) if hold.asked <= asked)
    }

    /// Whether it holds, and the storage does not know that yet.
    pub(crate) fn is_handed_over(&self) -> bool {
        let state = self.state.lock();
        matches!(state.stage, Stage::Held(_)) && state.first_finished.is_some()
    }

    /// Whether its ticket is as it was issued.
    pub(crate) fn is_unchanged(&self) -> bool {
        !self.is_claimed.load(Ordering::Relaxed)
    }

    pub(crate) fn is_being_claimed(&self) {
        self.is_claimed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn lease(&self) -> Lease {
        self.lease_of(&self.state.lock().stage)
    }

    fn lease_of(&self, stage: &Stage) -> Lease {
        match stage {
            Stage::Held(hold) => Lease::Until(hold.until),
            Stage::Failed(error) => Lease::Over(error.clone()),
            // No guard exists for it, not yet or no more.
            Stage::Waiting | Stage::Released => Lease::Until(self.ticket.requested),
        }
    }

    /// How long its next lease may be, if it is extended by itself at `now`:
    /// `None` when it has been held for as long as it may.
    pub(crate) fn renewed_lifetime(&self, now: Instant) -> Option<Duration> {
        let state = self.state.lock();
        let Some(max_hold) = self.keep_alive.and_then(|renewal| renewal.max_hold) else {
            return Some(state.lifetime);
        };
        let Stage::Held(hold) = state.stage else {
            return Some(state.lifetime);
        };
        let left = (hold.since + max_hold).saturating_duration_since(now);
        let left = Some(left).filter(|left| *left >= Duration::from_millis(1))?;
        Some(state.lifetime.min(left))
    }

    /// When the lease was asked for.
    pub(crate) fn held_since(&self) -> Instant {
        match self.state.lock().stage {
            Stage::Held(hold) => hold.asked,
            _ => self.ticket.requested,
        }
    }

    pub(crate) fn ahead(&self) -> u64 {
        self.state.lock().ahead
    }

    pub(crate) fn set_ahead(&self, ahead: u64) {
        self.state.lock().ahead = ahead;
    }

    pub(crate) fn lifetime(&self) -> Duration {
        self.state.lock().lifetime
    }

    pub(crate) fn set_lifetime(&self, lifetime: Duration) {
        self.state.lock().lifetime = lifetime;
    }

    pub(crate) fn set_last_error(&self, error: LockError) {
        self.state.lock().last_error = Some(error);
    }

    /// Remembers the timer of the next renewal; gives back the one before.
    #[must_use]
    pub(crate) fn set_renewal(&self, renewal: TimerKey) -> Option<TimerKey> {
        self.state.lock().renewal.replace(renewal)
    }

    /// Forgets the timer, because it fired or because it is cancelled.
    #[must_use]
    pub(crate) fn take_renewal(&self) -> Option<TimerKey> {
        self.state.lock().renewal.take()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
