//! How a message waits for its turn.
//!
//! A ticket that is not served at once gets an [`Entry`], and stands in the
//! [line](line) of its conversation: all entries of this process for it. From
//! then on its future only sleeps. What moves an entry on is a *look*, one
//! [`claim`](crate::Backend::claim) for its ticket, and a look is made
//!
//! - when the storage says that its turn has come (the usual way),
//! - when the head of the queue would die: one look per line (rule 7); and
//!   whoever promotes a ticket of somebody else [watches](watch) it,
//! - when wake-ups may have been lost.
//!
//! A look is sent from wherever its cause arises, never from the waiting
//! future: a caller whose executor is blocked keeps its turn all the same.

mod entry;
mod line;
mod place;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use entry::{Entry, Lease, Served};
pub(crate) use line::Lines;
pub(crate) use place::InLine;
pub use place::Place;
pub(crate) use watch::{Call, Watched};

use crate::backend::{Claim, Claimed, Listener, Step, WakeUp};
use crate::error::{LockError, LockErrorKind};
use crate::identity::ConversationId;
use crate::store::Shared;
use crate::telemetry::{self, WokenBy};

impl Listener for Shared {
    fn wake_up(&self, event: WakeUp) -> bool {
        match event {
            WakeUp::Turn {
                conversation,
                owner,
            } => {
                let entry = self.lines.find_called(&conversation, owner);
                if let Some(entry) = &entry {
                    self.on_called(entry);
                }
                entry.is_some()
            }
            WakeUp::Gone {
                conversation,
                owner,
            } => {
                let entry = self.lines.find_called(&conversation, owner);
                if let Some(entry) = &entry {
                    self.on_gone(entry);
                }
                entry.is_some()
            }
            WakeUp::Suspended => {
                telemetry::pushes(false);
                self.set_pushes(false);
                self.lines.look_by(Instant::now() + self.poll_time(), self);
                true
            }
            WakeUp::Resumed => {
                telemetry::pushes(true);
                self.set_pushes(true);
                for entry in self.lines.first_waiters() {
                    self.look(&entry, WokenBy::Reconnect);
                }
                for entry in self.lines.all().iter().filter(|entry| entry.is_held()) {
                    self.check_held(entry);
                }
                true
            }
        }
    }
}

impl Shared {
    /// The turn of `entry` has come: claims its ticket.
    pub(crate) fn on_called(&self, entry: &Arc<Entry>) {
        if entry.begin_look(true) {
            telemetry::woken(WokenBy::Push);
            self.look_now(entry, Instant::now());
        }
    }

    /// Looks at the ticket of `entry`: claims it if its turn has come.
    pub(crate) fn look(&self, entry: &Arc<Entry>, by: WokenBy) {
        if entry.begin_look(false) {
            telemetry::woken(by);
            self.look_now(entry, Instant::now());
        }
    }

    /// As [`look`](Self::look), for a cause that is not worth counting.
    pub(crate) fn look_again(&self, entry: &Arc<Entry>, asked: Instant) {
        if entry.begin_look(false) {
            self.look_now(entry, asked);
        }
    }

    fn look_now(&self, entry: &Arc<Entry>, asked: Instant) {
        let lifetime = entry.lifetime();
        let claim = self.claim_for(entry, lifetime, asked);
        let operation = telemetry::operation("claim");
        match self.backend.claim(&entry.conversation, &claim) {
            Step::Done(answer) => {
                drop(operation);
                self.on_looked(entry, asked, lifetime, answer);
            }
            Step::Pending(reply) => {
                let (store, entry) = (self.me.clone(), entry.clone());
                self.background.spawn_unwatched(async move {
                    let answer = reply.await;
                    drop(operation);
                    if let Some(store) = store.upgrade() {
                        store.on_looked(&entry, asked, lifetime, answer);
                    }
                });
            }
        }
    }

    /// If the turn was called while the look was under way, its answer may be
    /// from before: then it looks once more.
    fn on_looked(
        &self,
        entry: &Arc<Entry>,
        asked: Instant,
        lifetime: Duration,
        answer: Result<Claimed, LockError>,
    ) {
        let called = entry.end_look();
        self.on_claimed(entry, asked, lifetime, answer);
        if called {
            self.on_called(entry);
        }
    }

    /// Extends the lease of a holder that is kept alive.
    pub(crate) fn extend_by_itself(&self, entry: &Arc<Entry>) {
        let Ok(extending) = entry.extending.clone().try_lock_owned() else {
            // What it asks for now could undo what is being asked for.
            self.schedule_renewal_soon(entry);
            return;
        };
        let (asked, lifetime) = (Instant::now(), entry.lifetime());
        let claim = self.claim_for(entry, lifetime, asked);
        let operation = telemetry::operation("claim");
        match self.backend.claim(&entry.conversation, &claim) {
            Step::Done(answer) => {
                drop(operation);
                self.on_claimed(entry, asked, lifetime, answer);
            }
            Step::Pending(reply) => {
                let (store, entry) = (self.me.clone(), entry.clone());
                self.background.spawn_unwatched(async move {
                    let answer = reply.await;
                    drop((operation, extending));
                    if let Some(store) = store.upgrade() {
                        store.on_claimed(&entry, asked, lifetime, answer);
                    }
                });
            }
        }
    }

    /// The storage may have lost its data while it could not say so: sees
    /// whether a held ticket is still there. Only looks: a claim could come
    /// after an extension and shorten the lease again.
    fn check_held(&self, entry: &Arc<Entry>) {
        if let Step::Pending(reply) = self.backend.get(&entry.conversation) {
            let (store, entry) = (self.me.clone(), entry.clone());
            self.background.spawn_unwatched(async move {
                let is_there = match reply.await {
                    Ok(Some(lock)) => lock.has_ticket_of(entry.owner),
                    Ok(None) => false,
                    Err(_) => return,
                };
                if !is_there && let Some(store) = store.upgrade() {
                    store.on_missing(&entry);
                }
            });
        }
    }

    pub(crate) fn claim_for(&self, entry: &Entry, lifetime: Duration, asked: Instant) -> Claim {
        Claim {
            owner: entry.owner,
            number: entry.known_number(),
            lifetime,
            claim_window: self.timing.claim_window,
            asked: asked.into_std(),
        }
    }

    pub(crate) fn on_claimed(
        &self,
        entry: &Arc<Entry>,
        asked: Instant,
        lifetime: Duration,
        answer: Result<Claimed, LockError>,
    ) {
        match answer {
            Ok(Claimed::Served {
                number,
                fencing_token,
            }) => {
                entry.serve(number, fencing_token, asked, lifetime);
                self.schedule_renewal(entry);
            }
            // Somebody else is served: the storage was set back.
            Ok(Claimed::Waiting { .. }) if entry.is_held_since(asked) => self.on_gone(entry),
            Ok(Claimed::Waiting { ahead, look_again }) => {
                entry.set_ahead(ahead);
                // Counted from before the storage was asked: rather too early
                // than too late, however late the answer is noticed.
                let id = &entry.conversation;
                self.lines.head_dies_at(id, asked + look_again, asked, self);
            }
            // It is not issued yet: the answer to that will tell.
            Ok(Claimed::Gone) if entry.is_asked_for() => {}
            // Unless it left its line: then it gave the ticket back itself.
            Ok(Claimed::Gone) => self.on_missing(entry),
            Err(error) => self.on_claim_failed(entry, error),
        }
    }

    /// The storage did not say how the ticket stands. A holder goes on trying
    /// until its deadline; a waiter, too, unless that is of no use.
    fn on_claim_failed(&self, entry: &Arc<Entry>, error: LockError) {
        let id = &entry.conversation;
        telemetry::look_failed(id, &error);
        if entry.is_held() {
            self.schedule_renewal_soon(entry);
        } else if error.is_retryable() && error.kind() != LockErrorKind::NotReplicated {
            entry.set_trouble(error);
            let now = Instant::now();
            self.lines
                .head_dies_at(id, now + self.poll_time(), now, self);
        } else {
            self.end(entry, error.for_conversation(id));
            self.finish_in_background(id, entry.leaving(), false);
        }
    }

    /// The ticket is not there, unless its owner gave it back meanwhile.
    fn on_missing(&self, entry: &Entry) {
        if let Some(entry) = self.lines.find(&entry.conversation, entry.owner) {
            self.on_gone(&entry);
        }
    }

    /// The storage says that the ticket is not there.
    fn on_gone(&self, entry: &Entry) {
        let conversation = &entry.conversation;
        let now = Instant::now();
        let kind = if entry.is_held() {
            LockErrorKind::Lost
        } else {
            LockErrorKind::Gone
        };
        // A ticket that waited too long goes from the storage as well: whoever
        // is told of that before its own timer rings has waited too long, too.
        let is_over = entry.gives_up_at().is_some_and(|until| until <= now);
        if is_over && entry.time_out().is_some() {
            self.lines.remove(conversation, entry.owner, self);
        } else {
            self.end(entry, LockError::new(kind).for_conversation(conversation));
        }
        // Where one went, its neighbours may have gone too.
        if kind == LockErrorKind::Gone {
            self.lines.head_dies_at(conversation, now, now, self);
        }
    }

    /// What is due in the line of `conversation`: those who waited too long
    /// leave, and if the head should be dead by now, one looks.
    pub(crate) fn see_after_line(&self, conversation: &ConversationId) {
        let due = self.lines.due(conversation, Instant::now(), self);
        for entry in due.timed_out {
            if entry.time_out().is_some() {
                self.lines.remove(conversation, entry.owner, self);
                self.finish_in_background(conversation, entry.leaving(), false);
            }
        }
        if let Some(entry) = due.look {
            // Unless the answer says otherwise: whoever is served now has the
            // lock for a lifetime at most.
            let now = Instant::now();
            let served_until = now + entry.lifetime();
            self.lines
                .head_dies_at(conversation, served_until, now, self);
            self.look(&entry, WokenBy::Timer);
        }
    }

    /// Ends an entry with an error, which its waiter or its holder learns.
    pub(crate) fn end(&self, entry: &Entry, error: LockError) {
        if error.is_lost() {
            telemetry::lost(&error);
        }
        self.lines.remove(&entry.conversation, entry.owner, self);
        if let Some(renewal) = entry.fail(error) {
            self.alarms.cancel(renewal);
        }
    }

    /// Ends an entry whose owner gives its ticket back.
    pub(crate) fn retire(&self, entry: &Entry) {
        self.lines.remove(&entry.conversation, entry.owner, self);
        if let Some(renewal) = entry.retire() {
            self.alarms.cancel(renewal);
        }
    }
}
