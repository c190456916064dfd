//! What moves acquisitions on: calls, checks, leases, hand-offs.
//!
//! A ticket that is not served at once gets an [`Acquisition`] and stands in the
//! [line](crate::line) of its conversation. From then on its future only sleeps.
//! What moves it on is
//!
//! - the release before it, in this process: it has the lock at once, and the
//!   storage is told meanwhile ([`Backend::advance`]);
//! - a *call* of the storage: its turn has come, and it is claimed;
//! - a *check*, which is a [`claim`](Backend::claim), too, when the head of the
//!   queue would be dead (rule 7), or when wake-ups may have been lost.
//!
//! A claim is sent from wherever its cause arises, never from the waiting
//! future: a caller whose executor is blocked keeps its turn all the same. It
//! goes on in the runtime of the store, never in that of its caller.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::acquisition::{Acquisition, Lease, Standing};
use crate::backend::{
    Backend, Claim, Claimed, Finish, Finished, Listener, Phase, Step, TicketName, Uncontended,
    WakeUp,
};
use crate::background::Background;
use crate::config::Timing;
use crate::error::{LockError, LockErrorKind};
use crate::identity::{ClientId, ConversationId, FencingToken, Owner};
use crate::line::{Lines, Released};
use crate::sync::Mutex;
use crate::telemetry::{self, WokenBy};
use crate::timers::{Timer, TimerKey, Timers};

/// What the locks of a store share.
pub(crate) struct Engine {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) timing: Timing,
    pub(crate) lines: Lines,
    pub(crate) timers: Timers,
    pub(crate) background: Background,
    pub(crate) client: ClientId,
    me: Weak<Engine>,
    started: Instant,
    next_sequence: AtomicU64,
    /// The lifetimes of tickets that are being asked for, where the storage does
    /// not see after them itself: by sequence.
    requested: Mutex<HashMap<u64, Duration, ahash::RandomState>>,
    /// Whether the storage is able to wake us.
    pushes: AtomicBool,
    /// How often it became able to again.
    resumptions: AtomicU64,
    closed: AtomicBool,
    /// How far Redis is, if it could not be reached at the start.
    fallback: Option<Arc<Phase>>,
}

/// A ticket that is given back.
#[derive(Debug, Clone)]
pub(crate) struct Leaving {
    pub(crate) conversation: ConversationId,
    pub(crate) owner: Owner,
    pub(crate) number: Option<u64>,
    pub(crate) fencing_token: Option<FencingToken>,
    pub(crate) lifetime: Duration,
    /// Until when it is held, if it is.
    pub(crate) held_until: Option<Instant>,
    /// The number of the first ticket that was finished before it in this
    /// process, and of which the storage may not know.
    pub(crate) first_finished: Option<u64>,
    /// How it was served, if that was at once and has not changed.
    pub(crate) uncontended: Option<Uncontended>,
}

impl Engine {
    pub(crate) fn new(
        backend: Box<dyn Backend>,
        timing: Timing,
        fallback: Option<Arc<Phase>>,
    ) -> Arc<Self> {
        let engine = Arc::new_cyclic(|me: &Weak<Self>| Self {
            backend,
            timing,
            lines: Lines::new(),
            timers: Timers::default(),
            background: Background::default(),
            client: ClientId::random(),
            me: me.clone(),
            started: Instant::now(),
            next_sequence: AtomicU64::new(1),
            requested: Mutex::default(),
            pushes: AtomicBool::new(true),
            resumptions: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            fallback,
        });
        // The store lives where it was made.
        let _home = engine.background.home.handle();
        let listener: Weak<dyn Listener> = engine.me.clone();
        engine.backend.wake_ups(engine.client, listener);
        engine
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

    pub(crate) fn is_degraded(&self) -> bool {
        self.fallback
            .as_ref()
            .is_some_and(|phase| phase.is_degraded())
    }

    // Waiting: calls and checks.

    /// A ticket is being asked for: should its turn come before the answer, it is
    /// claimed.
    pub(crate) fn is_requested(&self, owner: Owner, lifetime: Duration) {
        self.requested.lock().insert(owner.sequence, lifetime);
    }

    pub(crate) fn is_answered(&self, owner: Owner) {
        self.requested.lock().remove(&owner.sequence);
    }

    /// A turn has come for a ticket that is not in line: it is claimed if it is
    /// being asked for. Says whether it is.
    fn claim_requested(&self, id: &ConversationId, owner: Owner) -> bool {
        let Some(lifetime) = self.requested.lock().get(&owner.sequence).copied() else {
            return false;
        };
        let claim = Claim::new(owner, lifetime, self.timing.claim_window);
        if let Step::Pending(reply) | Step::Timely(reply) = self.backend.claim(id, &claim) {
            let id = id.clone();
            self.background.spawn_unwatched(async move {
                if let Err(error) = reply.await {
                    telemetry::look_failed(&id, &error);
                }
            });
        }
        true
    }

    /// The turn of `acquisition` has come: claims its ticket.
    fn on_called(&self, acquisition: &Arc<Acquisition>) {
        if acquisition.begin_check(true) {
            telemetry::woken(WokenBy::Push);
            self.claim_now(acquisition, Instant::now());
        }
    }

    /// Checks the ticket of `acquisition`: claims it if its turn has come.
    fn check(&self, acquisition: &Arc<Acquisition>, by: WokenBy) {
        if acquisition.begin_check(false) {
            telemetry::woken(by);
            self.claim_now(acquisition, Instant::now());
        }
    }

    /// As [`check`](Self::check), for a cause that is not worth counting.
    pub(crate) fn recheck(&self, acquisition: &Arc<Acquisition>, asked: Instant) {
        if acquisition.begin_check(false) {
            self.claim_now(acquisition, asked);
        }
    }

    fn claim_now(&self, acquisition: &Arc<Acquisition>, asked: Instant) {
        let lifetime = acquisition.lifetime();
        let claim = self.claim_for(acquisition, lifetime, asked);
        let operation = telemetry::operation("claim");
        match self.backend.claim(&acquisition.ticket.conversation, &claim) {
            Step::Done(answer) => {
                drop(operation);
                self.on_checked(acquisition, asked, lifetime, answer);
            }
            Step::Pending(reply) | Step::Timely(reply) => {
                let (engine, acquisition) = (self.me.clone(), acquisition.clone());
                self.background.spawn_unwatched(async move {
                    let answer = reply.await;
                    drop(operation);
                    if let Some(engine) = engine.upgrade() {
                        engine.on_checked(&acquisition, asked, lifetime, answer);
                    }
                });
            }
        }
    }

    /// If the turn was called while the check was under way, its answer may be
    /// from before: then it is checked once more.
    fn on_checked(
        &self,
        acquisition: &Arc<Acquisition>,
        asked: Instant,
        lifetime: Duration,
        answer: Result<Claimed, LockError>,
    ) {
        let was_called = acquisition.end_check();
        self.on_claimed(acquisition, asked, lifetime, false, answer);
        if was_called {
            self.on_called(acquisition);
        }
    }

    pub(crate) fn claim_for(
        &self,
        acquisition: &Acquisition,
        lifetime: Duration,
        asked: Instant,
    ) -> Claim {
        acquisition.is_being_claimed();
        Claim {
            number: Some(acquisition.ticket.number),
            extends: acquisition.is_held(),
            asked: asked.into_std(),
            ..Claim::new(acquisition.ticket.owner, lifetime, self.timing.claim_window)
        }
    }

    /// The storage has answered a claim, from wherever it came: of a waiter, or
    /// of one that `asks_as_holder`.
    pub(crate) fn on_claimed(
        &self,
        acquisition: &Arc<Acquisition>,
        asked: Instant,
        lifetime: Duration,
        asks_as_holder: bool,
        answer: Result<Claimed, LockError>,
    ) {
        match answer {
            Ok(Claimed::Served { .. }) => {
                acquisition.serve(asked, lifetime);
                self.schedule_renewal(acquisition);
            }
            // What a waiter asked says nothing of the lock that it has by now: it
            // was handed over meanwhile. To a holder it says that another ticket is
            // served, as the storage was set back.
            Ok(Claimed::Waiting { .. }) if acquisition.is_held() => {
                let was_held = asks_as_holder && acquisition.is_held_since(asked);
                if was_held && !acquisition.is_handed_over() {
                    self.on_gone(acquisition);
                }
            }
            Ok(Claimed::Waiting { ahead, look_again }) => {
                acquisition.set_ahead(ahead);
                // Counted from before the storage was asked: rather too early
                // than too late, however late the answer is noticed.
                let id = &acquisition.ticket.conversation;
                self.lines.head_dies_at(id, asked + look_again, asked, self);
            }
            // Unless it left its line: then it gave the ticket back itself.
            Ok(Claimed::Gone) => self.on_missing(acquisition),
            Err(error) => self.on_claim_failed(acquisition, error),
        }
    }

    /// The storage did not say how the ticket stands. A holder is tried again
    /// until its deadline; a waiter, too, unless that is of no use.
    fn on_claim_failed(&self, acquisition: &Arc<Acquisition>, error: LockError) {
        let id = &acquisition.ticket.conversation;
        telemetry::look_failed(id, &error);
        if acquisition.is_held() {
            self.schedule_renewal_soon(acquisition);
        } else if error.is_retryable() && error.kind() != LockErrorKind::NotReplicated {
            acquisition.set_last_error(error);
            let now = Instant::now();
            self.lines
                .head_dies_at(id, now + self.poll_time(), now, self);
        } else {
            let leaving = Self::leaving(acquisition);
            self.end(acquisition, error.for_conversation(id));
            self.give_back(&leaving, false);
        }
    }

    /// The ticket is not there, unless its owner gave it back meanwhile.
    fn on_missing(&self, acquisition: &Acquisition) {
        let ticket = &acquisition.ticket;
        if let Some(acquisition) = self.lines.find(&ticket.conversation, ticket.owner) {
            self.on_gone(&acquisition);
        }
    }

    /// The storage says that the ticket is not there.
    fn on_gone(&self, acquisition: &Acquisition) {
        let conversation = &acquisition.ticket.conversation;
        let now = Instant::now();
        let kind = if acquisition.is_held() {
            LockErrorKind::Lost
        } else {
            LockErrorKind::Gone
        };
        // A ticket that waited too long goes from the storage as well: an owner
        // that is told of that before its own timer fires has waited too long.
        if acquisition.time_out(now) {
            self.lines.remove(acquisition, self);
        } else {
            let error = LockError::new(kind).for_conversation(conversation);
            self.end(acquisition, error);
        }
        // Where one went, its neighbours may have gone too.
        if kind == LockErrorKind::Gone {
            self.lines.head_dies_at(conversation, now, now, self);
        }
    }

    /// What is due in the line of `conversation`: those that waited too long
    /// leave, and if the head should be dead by now, one is checked.
    fn check_line(&self, conversation: &ConversationId) {
        let now = Instant::now();
        let due = self.lines.due(conversation, now, self);
        for acquisition in due.timed_out {
            let leaving = Self::leaving(&acquisition);
            if acquisition.time_out(now) {
                self.lines.remove(&acquisition, self);
                self.give_back(&leaving, false);
            }
        }
        if let Some(acquisition) = due.check {
            // Unless the answer says otherwise: the one that is served now has
            // the lock for a lifetime at most.
            let now = Instant::now();
            let served_until = now + acquisition.lifetime();
            self.lines
                .head_dies_at(conversation, served_until, now, self);
            self.check(&acquisition, WokenBy::Timer);
        }
    }

    /// When to check, if the head would be dead at `head_dies_at`.
    pub(crate) fn next_check(&self, head_dies_at: Instant) -> Instant {
        if self.pushes.load(Ordering::Acquire) {
            return head_dies_at;
        }
        head_dies_at.min(Instant::now() + self.poll_time())
    }

    /// The longest time between two checks when no wake-up can arrive: the wait
    /// time, unless a client that checks so seldom would be taken for dead.
    fn poll_time(&self) -> Duration {
        let window = self.timing.claim_window.min(self.timing.lock_lifetime);
        self.timing.wait_time.min(window / 3)
    }

    /// How often wake-ups came again after they may have been lost. A ticket
    /// that is issued meanwhile may have missed its call.
    pub(crate) fn resumptions(&self) -> u64 {
        self.resumptions.load(Ordering::Acquire)
    }

    fn set_pushes(&self, coming: bool) {
        if coming {
            self.resumptions.fetch_add(1, Ordering::AcqRel);
        }
        self.pushes.store(coming, Ordering::Release);
    }

    // Holding: renewals.

    /// Sets the next renewal of a held lock that is to be kept alive.
    pub(crate) fn schedule_renewal(&self, acquisition: &Arc<Acquisition>) {
        if acquisition.keep_alive.is_some() && acquisition.is_held() {
            let now = Instant::now();
            // Once it has been held for as long as it may, its lease runs out.
            let lifetime = acquisition.renewed_lifetime(now);
            let lifetime = lifetime.unwrap_or(acquisition.lifetime());
            let at = self.on_grid(now + lifetime / 3, lifetime / 16);
            self.set_renewal(acquisition, at);
        }
    }

    /// The lease may have become as short as this.
    pub(crate) fn schedule_renewal_within(
        &self,
        acquisition: &Arc<Acquisition>,
        lifetime: Duration,
    ) {
        if acquisition.keep_alive.is_some() {
            self.set_renewal(acquisition, Instant::now() + lifetime / 3);
        }
    }

    /// The storage did not answer: tries again while the lease runs. A lease that
    /// was handed over is confirmed even if it is not to be kept alive.
    fn schedule_renewal_soon(&self, acquisition: &Arc<Acquisition>) {
        if acquisition.is_held()
            && (acquisition.keep_alive.is_some() || acquisition.is_handed_over())
        {
            let soon = self.timing.wait_time.min(acquisition.lifetime() / 8);
            self.set_renewal(acquisition, Instant::now() + soon);
        }
    }

    fn set_renewal(&self, acquisition: &Arc<Acquisition>, at: Instant) {
        let key = self.set_timer(at, Timer::Renew(Arc::downgrade(acquisition)));
        if let Some(before) = acquisition.set_renewal(key) {
            self.timers.cancel(before);
        }
    }

    /// Moves renewals back to a grid, so that those of many guards fire together
    /// and leave in one pipelined batch.
    fn on_grid(&self, at: Instant, grid: Duration) -> Instant {
        let since_start = at.saturating_duration_since(self.started);
        let past_the_line = since_start.as_nanos() % grid.as_nanos().max(1);
        // A sixteenth of a lifetime: far below u64's 580 years.
        at - Duration::from_nanos(u64::try_from(past_the_line).unwrap_or(0))
    }

    fn renew(&self, acquisition: &Arc<Acquisition>) {
        let _fired = acquisition.take_renewal();
        if !acquisition.is_held() {
            return;
        }
        match acquisition.lease() {
            Lease::Until(until) if until <= Instant::now() => {
                let error = LockError::lost(&acquisition.ticket.conversation);
                self.end(acquisition, error);
            }
            Lease::Until(_) if acquisition.is_handed_over() => {
                let id = &acquisition.ticket.conversation;
                if let Some(holder) = self.lines.next_advance(id) {
                    self.advance(&holder);
                }
            }
            // A timer of one that was handed over, and is confirmed by now.
            Lease::Until(_) if acquisition.keep_alive.is_none() => {}
            Lease::Until(_) => self.extend_by_itself(acquisition),
            Lease::Over(_) => {}
        }
    }

    /// Extends the lease of a holder that is kept alive.
    fn extend_by_itself(&self, acquisition: &Arc<Acquisition>) {
        let Ok(extending) = acquisition.extending.clone().try_lock_owned() else {
            // What it asks for now could undo what is being asked for.
            self.schedule_renewal_soon(acquisition);
            return;
        };
        let asked = Instant::now();
        let Some(lifetime) = acquisition.renewed_lifetime(asked) else {
            return telemetry::max_hold_reached(&acquisition.ticket.conversation);
        };
        let claim = self.claim_for(acquisition, lifetime, asked);
        let operation = telemetry::operation("claim");
        match self.backend.claim(&acquisition.ticket.conversation, &claim) {
            Step::Done(answer) => {
                drop(operation);
                self.on_claimed(acquisition, asked, lifetime, true, answer);
            }
            Step::Pending(reply) | Step::Timely(reply) => {
                let (engine, acquisition) = (self.me.clone(), acquisition.clone());
                self.background.spawn_unwatched(async move {
                    let answer = reply.await;
                    drop((operation, extending));
                    if let Some(engine) = engine.upgrade() {
                        engine.on_claimed(&acquisition, asked, lifetime, true, answer);
                    }
                });
            }
        }
    }

    /// Lets the lease run for `lifetime` from now on, for its holder.
    ///
    /// # Errors
    ///
    /// What the storage says.
    pub(crate) async fn extend(
        &self,
        acquisition: &Arc<Acquisition>,
        lifetime: Duration,
    ) -> Result<(), LockError> {
        let extending = acquisition.extending.lock().await;
        let asked = Instant::now();
        if acquisition.begin_extension(asked, lifetime) {
            self.schedule_renewal_within(acquisition, lifetime);
        }
        let claim = self.claim_for(acquisition, lifetime, asked);
        let id = &acquisition.ticket.conversation;
        let operation = telemetry::operation("claim");
        let is_handed_over = acquisition.is_handed_over();
        let answer = if is_handed_over {
            // The storage may still see the ticket before it at the head.
            self.backend.advance(id, &claim)
        } else {
            self.backend.claim(id, &claim)
        };
        let answer = answer.resolve().await;
        drop((operation, extending));
        if is_handed_over && matches!(answer, Ok(Claimed::Waiting { .. })) {
            // Another client is served: the queue is a later one.
            self.on_missing(acquisition);
            return Ok(());
        }
        if matches!(answer, Ok(Claimed::Served { .. })) {
            acquisition.set_lifetime(lifetime);
        }
        let outcome = answer.as_ref().map(|_| ()).map_err(Clone::clone);
        self.on_claimed(acquisition, asked, lifetime, true, answer);
        outcome.map_err(|error| error.for_conversation(id))
    }

    /// Waits until a held lock is no longer ours, and says why; `None` if it was
    /// released.
    pub(crate) async fn lost(&self, acquisition: &Acquisition) -> Option<LockError> {
        loop {
            let changed = acquisition.lease_changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            self.keep_running();
            if acquisition.is_released() {
                return None;
            }
            match acquisition.lease() {
                Lease::Over(error) => return Some(error),
                Lease::Until(until) if until <= Instant::now() => {
                    let error = LockError::lost(&acquisition.ticket.conversation);
                    self.end(acquisition, error.clone());
                    return Some(error);
                }
                Lease::Until(until) => tokio::select! {
                    () = &mut changed => {}
                    () = tokio::time::sleep_until(until) => {}
                },
            }
        }
    }

    /// The storage may have lost its data while it could not say so: sees
    /// whether a held ticket is still there. Only looks: a claim could come after
    /// an extension and shorten the lease again.
    fn check_held(&self, acquisition: &Arc<Acquisition>) {
        if let Step::Pending(reply) | Step::Timely(reply) =
            self.backend.get(&acquisition.ticket.conversation)
        {
            let (engine, acquisition) = (self.me.clone(), acquisition.clone());
            self.background.spawn_unwatched(async move {
                let is_there = match reply.await {
                    Ok(Some(lock)) => lock.has_ticket_of(acquisition.ticket.owner),
                    Ok(None) => false,
                    Err(_) => return,
                };
                if !is_there && let Some(engine) = engine.upgrade() {
                    engine.on_missing(&acquisition);
                }
            });
        }
    }

    // Handing over, and giving back.

    /// Takes a ticket out of its line. `None` if the lock was handed over to the
    /// next of this process: then the storage is told in the background.
    pub(crate) fn leave(&self, leaving: &Leaving) -> Option<Finish> {
        let hand_over_until = leaving
            .held_until
            .filter(|until| self.may_hand_over(*until, leaving.lifetime));
        match self.lines.release(leaving, hand_over_until, self) {
            Released::HandedOver { next, advance } => {
                if advance {
                    self.advance(&next);
                }
                next.wake();
                None
            }
            Released::Finish => Some(Finish {
                number: leaving.number,
                first_finished: leaving.first_finished,
                uncontended: leaving.uncontended,
                ..Finish::new(TicketName::Owner(leaving.owner), self.timing.claim_window)
            }),
        }
    }

    /// Whether enough is left of a lease to hand it over: more than it takes to
    /// tell the storage, even if that has to be repeated.
    fn may_hand_over(&self, until: Instant, lifetime: Duration) -> bool {
        let enough = self.timing.claim_window.min(lifetime) / 3;
        until > Instant::now() + enough && self.backend.hands_over()
    }

    /// Tells the storage that `next` has the lock. One step covers all hand-offs
    /// until it is carried out.
    fn advance(&self, next: &Arc<Acquisition>) {
        let Ok(extending) = next.extending.clone().try_lock_owned() else {
            // The extension that is under way tells the storage, too. Should it
            // fail, this is tried again.
            self.advance_later(&next.ticket.conversation);
            return;
        };
        let (asked, lifetime) = (Instant::now(), next.lifetime());
        next.expect(asked, lifetime);
        let claim = self.claim_for(next, lifetime, asked);
        let operation = telemetry::operation("advance");
        match self.backend.advance(&next.ticket.conversation, &claim) {
            Step::Done(answer) => {
                drop((operation, extending));
                self.on_advanced(next, asked, lifetime, answer);
            }
            Step::Pending(reply) | Step::Timely(reply) => {
                let (engine, next) = (self.me.clone(), next.clone());
                self.background.spawn(async move {
                    let answer = reply.await;
                    drop((operation, extending));
                    if let Some(engine) = engine.upgrade() {
                        engine.on_advanced(&next, asked, lifetime, answer);
                    }
                });
            }
        }
    }

    fn on_advanced(
        &self,
        target: &Arc<Acquisition>,
        asked: Instant,
        lifetime: Duration,
        answer: Result<Claimed, LockError>,
    ) {
        let id = &target.ticket.conversation;
        let claimed = match answer {
            Ok(claimed) => claimed,
            Err(error) => {
                telemetry::look_failed(id, &error);
                self.advance_later(id);
                return;
            }
        };
        let is_confirmed = matches!(claimed, Claimed::Served { .. });
        if is_confirmed {
            target.serve(asked, lifetime);
            self.schedule_renewal(target);
        } else {
            // Its ticket was taken away meanwhile. The finished one stays at the
            // head until this holder has let go.
            self.on_missing(target);
        }
        if let Some(holder) = self.lines.next_advance(id) {
            if is_confirmed {
                holder.extend_handed_over(asked + lifetime, target.ticket.number);
            }
            self.advance(&holder);
        }
    }

    fn advance_later(&self, id: &ConversationId) {
        if let Some(holder) = self.lines.advance_failed(id) {
            self.schedule_renewal_soon(&holder);
        }
    }

    /// Gives a ticket back without waiting for it to be done. A `holder` that
    /// has not been told so yet has lost its lock if the ticket is not there.
    pub(crate) fn give_back(&self, leaving: &Leaving, holder: bool) {
        if let Some(finish) = self.leave(leaving) {
            self.finish_in_background(&leaving.conversation, &finish, leaving.lifetime, holder);
        }
    }

    /// See [`give_back`](Self::give_back), for a ticket that has left its line.
    pub(crate) fn finish_in_background(
        &self,
        id: &ConversationId,
        finish: &Finish,
        lifetime: Duration,
        holder: bool,
    ) {
        let finish = Finish {
            // After a lifetime it would be dead, should it be served.
            patience: Some(lifetime),
            ..finish.clone()
        };
        let operation = telemetry::operation("finish");
        match self.backend.finish(id, &finish) {
            Step::Done(answer) => {
                drop(operation);
                self.on_given_back(id, answer, holder);
            }
            Step::Pending(reply) | Step::Timely(reply) => {
                let (engine, id) = (self.me.clone(), id.clone());
                self.background.spawn(async move {
                    let answer = reply.await;
                    drop(operation);
                    match engine.upgrade() {
                        Some(engine) => engine.on_given_back(&id, answer, holder),
                        None => drop(answer),
                    }
                });
            }
        }
    }

    fn on_given_back(
        &self,
        id: &ConversationId,
        answer: Result<Finished, LockError>,
        holder: bool,
    ) {
        match answer {
            Ok(finished) => {
                self.on_finished(id, &finished);
                if holder && !finished.found {
                    telemetry::lost(&LockError::lost(id));
                }
            }
            Err(error) => telemetry::release_failed(id, &error),
        }
    }

    /// If the step called a ticket of our own, it is claimed now: its call can
    /// be lost.
    pub(crate) fn on_finished(&self, id: &ConversationId, finished: &Finished) {
        if let Some(next) = finished.next
            && next.client == self.client
            && let Some(acquisition) = self.lines.find(id, next)
        {
            self.on_called(&acquisition);
        }
    }

    /// The ticket of `acquisition`, to be given back.
    pub(crate) fn leaving(acquisition: &Acquisition) -> Leaving {
        let ticket = &acquisition.ticket;
        Leaving {
            conversation: ticket.conversation.clone(),
            owner: ticket.owner,
            number: Some(ticket.number),
            fencing_token: Some(ticket.fencing_token),
            lifetime: acquisition.lifetime(),
            held_until: None,
            first_finished: None,
            uncontended: None,
        }
    }

    /// Ends an acquisition with an error, which its waiter or its holder learns.
    pub(crate) fn end(&self, acquisition: &Acquisition, error: LockError) {
        if error.is_lost() {
            telemetry::lost(&error);
        }
        self.lines.remove(acquisition, self);
        if let Some(renewal) = acquisition.fail(error) {
            self.timers.cancel(renewal);
        }
    }

    /// Ends an acquisition whose owner gives its ticket back; says how it stood.
    pub(crate) fn release(&self, acquisition: &Acquisition) -> Standing {
        let (renewal, standing) = acquisition.release();
        if let Some(renewal) = renewal {
            self.timers.cancel(renewal);
        }
        standing
    }

    // Timers.

    pub(crate) fn set_timer(&self, at: Instant, timer: Timer) -> TimerKey {
        let home = self.background.home.handle();
        self.timers.set(at, timer, home.as_ref(), &self.me)
    }

    pub(crate) fn on_timers(&self, due: Vec<Timer>) {
        for timer in due {
            match timer {
                Timer::Line(conversation) => self.check_line(&conversation),
                Timer::Renew(acquisition) => {
                    if let Some(acquisition) = acquisition.upgrade() {
                        self.renew(&acquisition);
                    }
                }
            }
        }
    }

    /// Starts the timers again if their runtime has ended, and everything that
    /// went with it: called by whatever is polled.
    pub(crate) fn keep_running(&self) {
        if self.timers.has_stopped() {
            self.restart();
        }
    }

    #[cold]
    fn restart(&self) {
        let Some(home) = self.background.home.handle() else {
            return;
        };
        if !self.timers.restart(&home, &self.me) {
            return;
        }
        for acquisition in self.lines.all() {
            // A check that was under way went with its runtime.
            acquisition.end_check();
            self.schedule_renewal(&acquisition);
            if acquisition.is_handed_over() {
                // So did the advance.
                self.schedule_renewal_soon(&acquisition);
            }
            if acquisition.is_waiting() {
                self.recheck(&acquisition, Instant::now());
            }
        }
        self.lines.fire_all(self);
    }

    pub(crate) fn wake_all(&self) {
        for acquisition in self.lines.all() {
            acquisition.wake();
        }
    }
}

impl Listener for Engine {
    fn wake_up(&self, event: WakeUp) -> bool {
        match event {
            WakeUp::Turn {
                conversation,
                owner,
            } => {
                let found = self.lines.find_called(&conversation, owner);
                match &found {
                    Some(acquisition) => self.on_called(acquisition),
                    None => return self.claim_requested(&conversation, owner),
                }
                true
            }
            WakeUp::Gone {
                conversation,
                owner,
            } => {
                let found = self.lines.find_called(&conversation, owner);
                if let Some(acquisition) = &found {
                    self.on_gone(acquisition);
                }
                found.is_some()
            }
            WakeUp::Watch {
                conversation,
                owner: _,
                after,
            } => {
                let now = Instant::now();
                self.lines
                    .head_dies_at(&conversation, now + after, now, self);
                true
            }
            WakeUp::Suspended => {
                telemetry::pushes(false);
                self.set_pushes(false);
                self.lines.check_by(Instant::now() + self.poll_time(), self);
                true
            }
            WakeUp::Ended => {
                // One that joins its line only now finds out by a check.
                self.set_pushes(true);
                for acquisition in self.lines.all().iter().filter(|it| it.is_waiting()) {
                    let id = &acquisition.ticket.conversation;
                    self.end(acquisition, LockError::runtime_ended().for_conversation(id));
                }
                true
            }
            WakeUp::Resumed => {
                telemetry::pushes(true);
                self.set_pushes(true);
                for acquisition in self.lines.first_waiters() {
                    self.check(&acquisition, WokenBy::Reconnect);
                }
                for acquisition in self.lines.all().iter().filter(|it| it.is_held()) {
                    self.check_held(acquisition);
                }
                true
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.timers.stop();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}
