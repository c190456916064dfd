//! A held lock.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::acquisition::{Acquisition, Issuance, Lease, Renewal, Standing};
use crate::backend::{Finish, Finished, Step, Uncontended};
use crate::config::check_lifetime;
use crate::engine::{Engine, Leaving};
use crate::error::LockError;
use crate::identity::{ConversationId, FencingToken};
use crate::telemetry;

/// A held lock: the proof that it is this message's turn.
///
/// The lease runs until [`deadline`](Self::deadline); after that the lock is
/// somebody else's, whatever the holder is doing. Give the
/// [`fencing_token`](Self::fencing_token) to whatever the lock protects, so
/// that it can refuse a holder that is late.
///
/// Dropping a guard releases the lock in the background.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), lock_store::LockError> {
/// use std::time::Duration;
///
/// let store = lock_store::LockStore::in_memory();
/// let guard = store.lock("conversation-42").await?;
/// guard.extend(Duration::from_secs(300)).await?;
/// assert!(!guard.is_lost());
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a guard releases its lock"]
pub struct LockGuard {
    /// In a box, as a guard is moved more often than it is made.
    held: Box<Held>,
    stage: Stage,
}

/// How far the guard is on its way out.
#[derive(Debug)]
enum Stage {
    Held,
    /// The lease is not watched any more, but the ticket may be there: this gives
    /// it back.
    Leaving(Finish),
    Released,
}

#[derive(Debug)]
struct Held {
    engine: Arc<Engine>,
    ticket: Issuance,
    lifetime: Duration,
    /// What watches the lease. An uncontended lock has none until it is asked
    /// for something that needs it.
    acquisition: OnceLock<Arc<Acquisition>>,
}

impl LockGuard {
    /// A guard for a ticket that was served at once, whose lease only it needs
    /// to know of.
    #[inline]
    pub(crate) fn unwatched(engine: Arc<Engine>, ticket: Issuance, lifetime: Duration) -> Self {
        Self {
            held: Box::new(Held {
                engine,
                ticket,
                lifetime,
                acquisition: OnceLock::new(),
            }),
            stage: Stage::Held,
        }
    }

    /// A guard for an acquisition whose turn has come.
    pub(crate) fn watched(engine: Arc<Engine>, acquisition: Arc<Acquisition>) -> Self {
        let ticket = Issuance {
            requested: acquisition.held_since(),
            ..acquisition.ticket.clone()
        };
        Self {
            held: Box::new(Held {
                engine,
                ticket,
                lifetime: acquisition.lifetime(),
                acquisition: OnceLock::from(acquisition),
            }),
            stage: Stage::Held,
        }
    }

    /// Has the store extend the lease from now on.
    pub(crate) fn keep_alive(&self, max_hold: Option<Duration>) {
        let acquisition = self.watch(Some(Renewal { max_hold }));
        self.held.engine.schedule_renewal(acquisition);
    }

    /// The conversation that is locked.
    pub fn conversation_id(&self) -> &ConversationId {
        &self.held.ticket.conversation
    }

    /// A number that is higher than that of every earlier holder.
    pub fn fencing_token(&self) -> FencingToken {
        self.held.ticket.fencing_token
    }

    /// The number on the ticket: how many came before it since the queue was
    /// last empty.
    pub fn ticket_number(&self) -> u64 {
        self.held.ticket.number
    }

    /// Until when the lock is surely ours, unless it is extended. It was
    /// counted from before the storage was asked, so it is never later than
    /// what the storage thinks.
    #[inline]
    pub fn deadline(&self) -> std::time::Instant {
        match self.lease() {
            Lease::Until(until) => until.into_std(),
            Lease::Over(_) => self.first_deadline().into_std(),
        }
    }

    /// Whether the lock is no longer ours.
    pub fn is_lost(&self) -> bool {
        self.loss().is_some()
    }

    /// Resolves when the lock is no longer ours: its lease ran out, or the
    /// storage said that the ticket is gone. Returns the reason, an error of
    /// the kind [`Lost`](crate::LockErrorKind::Lost).
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point; nothing is changed.
    pub async fn lost(&self) -> LockError {
        let acquisition = self.watch_closely().await;
        match self.held.engine.lost(acquisition).await {
            Some(error) => error,
            // Only its guard releases it, and that is here.
            None => self.lost_error(),
        }
    }

    /// A token that is cancelled when the lock is no longer ours, for work that
    /// is done elsewhere; see [`lost`](Self::lost). It is not cancelled by a
    /// release. Needs a runtime.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), lock_store::LockError> {
    /// let store = lock_store::LockStore::in_memory();
    /// let guard = store.lock("conversation-42").await?;
    /// let lost = guard.cancellation_token();
    /// let work = tokio::spawn(async move {
    ///     tokio::select! {
    ///         () = lost.cancelled() => "stopped",
    ///         () = tokio::task::yield_now() => "done",
    ///     }
    /// });
    /// assert_eq!(work.await.unwrap(), "done");
    /// guard.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancellation_token(&self) -> CancellationToken {
        let token = CancellationToken::new();
        let (engine, acquisition) = (self.held.engine.clone(), self.watch(None).clone());
        let cancel = token.clone();
        self.held.engine.background.spawn_unwatched(async move {
            if engine.lost(&acquisition).await.is_some() {
                cancel.cancel();
            }
        });
        token
    }

    /// Lets the lease run for `lifetime` from now on, whatever was left of it.
    /// With `keep_alive`, later extensions are as long.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::LockErrorKind::Lost) when the lock is no longer ours,
    /// [`Config`](crate::LockErrorKind::Config) when `lifetime` is out of range, or
    /// what the storage says; then the lease runs as before, or ends after
    /// `lifetime` if that is sooner.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the lease may or may not have been extended; the guard
    /// goes by what it knows, which is never too late.
    pub async fn extend(&self, lifetime: Duration) -> Result<(), LockError> {
        check_lifetime(lifetime)?;
        if let Some(error) = self.loss() {
            return Err(error);
        }
        let acquisition = self.watch(None);
        self.held.engine.extend(acquisition, lifetime).await?;
        self.loss().map_or(Ok(()), Err)
    }

    /// Gives the lock to the next in line.
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::LockErrorKind::Lost) when it was no longer ours, so that what
    /// was done last may not have been protected; or what the storage says,
    /// and then it is tried again in the background.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the lock is released in the background.
    #[inline]
    pub async fn release(mut self) -> Result<(), LockError> {
        let (standing, finish) = self.leave();
        let Some(finish) = finish else {
            // The next one has it; this one had it until then.
            self.stage = Stage::Released;
            return Ok(());
        };
        let (engine, id) = (&self.held.engine, &self.held.ticket.conversation);
        let operation = telemetry::operation("finish");
        let answer = match engine.backend.finish(id, &finish) {
            Step::Done(answer) => answer,
            Step::Pending(reply) | Step::Timely(reply) => {
                self.stage = Stage::Leaving(finish);
                // A storage that had to be asked twice cannot know whether the
                // ticket was there the first time: the deadline decides.
                reply.await.map(|finished| Finished {
                    found: finished.found
                        && (!finished.in_doubt || Instant::now() < self.deadline_of(&standing)),
                    ..finished
                })
            }
        };
        drop(operation);
        let finished = answer.map_err(|error| error.for_conversation(id))?;
        self.stage = Stage::Released;
        self.held.engine.on_finished(id, &finished);
        match standing.lease {
            Some(Lease::Over(error)) => Err(error),
            _ if finished.found => Ok(()),
            _ => {
                let error = self.lost_error();
                telemetry::lost(&error);
                Err(error)
            }
        }
    }

    /// As [`release`](Self::release), for threads without a runtime.
    ///
    /// # Errors
    ///
    /// As [`release`](Self::release).
    ///
    /// # Panics
    ///
    /// In an asynchronous context, as it would block the executor.
    pub fn blocking_release(self) -> Result<(), LockError> {
        let engine = self.held.engine.clone();
        engine.background.block_on(self.release())
    }

    /// Itself, unless its lease is over already.
    pub(crate) fn unless_lost(self) -> Result<Self, LockError> {
        match self.loss() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    #[inline]
    fn lease(&self) -> Lease {
        let acquisition = self.held.acquisition.get();
        acquisition.map_or_else(|| Lease::Until(self.first_deadline()), |it| it.lease())
    }

    /// The end of the lease as it stood.
    fn deadline_of(&self, standing: &Standing) -> Instant {
        match standing.lease {
            Some(Lease::Until(until)) => until,
            Some(Lease::Over(_)) | None => self.first_deadline(),
        }
    }

    /// The end of the lease as it began.
    fn first_deadline(&self) -> Instant {
        self.held.ticket.requested + self.held.lifetime
    }

    fn loss(&self) -> Option<LockError> {
        match self.lease() {
            Lease::Over(error) => Some(error),
            Lease::Until(until) => (until <= Instant::now()).then(|| self.lost_error()),
        }
    }

    fn lost_error(&self) -> LockError {
        LockError::lost(&self.held.ticket.conversation)
    }

    /// The acquisition that watches the lease.
    fn watch(&self, keep_alive: Option<Renewal>) -> &Arc<Acquisition> {
        self.held.acquisition.get_or_init(|| {
            let acquisition =
                Acquisition::held(self.held.ticket.clone(), self.held.lifetime, keep_alive);
            let engine = &self.held.engine;
            engine.lines.add(acquisition.clone(), None, engine);
            acquisition
        })
    }

    /// The acquisition that watches the lease, sure that the ticket was there
    /// when it began to.
    async fn watch_closely(&self) -> &Arc<Acquisition> {
        if let Some(acquisition) = self.held.acquisition.get() {
            return acquisition;
        }
        let acquisition = self.watch(None);
        let ticket = &self.held.ticket;
        let engine = &self.held.engine;
        if let Ok(lock) = engine.backend.get(&ticket.conversation).resolve().await
            && !lock.is_some_and(|lock| lock.has_ticket_of(ticket.owner))
        {
            engine.end(acquisition, self.lost_error());
        }
        acquisition
    }

    /// Stops watching the lease, before the ticket is given back: a claim that
    /// is under way will find it gone, and that is no loss then. Says how the
    /// lease stood, and what gives the ticket back, unless the next one of this
    /// process has the lock by now.
    #[inline]
    fn leave(&mut self) -> (Standing, Option<Finish>) {
        let Held {
            engine,
            ticket,
            lifetime,
            acquisition,
        } = &*self.held;
        let (number, requested) = (ticket.number, ticket.requested);
        telemetry::released(&ticket.conversation, number, || requested.elapsed());
        let mut uncontended = None;
        let standing = match acquisition.get() {
            Some(acquisition) => {
                if acquisition.is_unchanged() && number == 0 {
                    uncontended = Some(self.uncontended());
                }
                engine.release(acquisition)
            }
            None => {
                uncontended = (number == 0).then(|| self.uncontended());
                Standing::until(self.first_deadline())
            }
        };
        let finish = engine.leave(&Leaving {
            conversation: ticket.conversation.clone(),
            owner: ticket.owner,
            number: Some(number),
            fencing_token: Some(ticket.fencing_token),
            lifetime: *lifetime,
            held_until: standing.held_until(),
            first_finished: standing.first_finished,
            uncontended,
        });
        (standing, finish)
    }

    /// The ticket as it was issued.
    fn uncontended(&self) -> Uncontended {
        Uncontended {
            lifetime: self.held.lifetime,
            fencing_token: self.held.ticket.fencing_token,
        }
    }
}

impl Drop for LockGuard {
    #[inline]
    fn drop(&mut self) {
        let (finish, is_told) = match std::mem::replace(&mut self.stage, Stage::Released) {
            Stage::Released => return,
            // A release was under way, and may have been done.
            Stage::Leaving(finish) => (finish, true),
            Stage::Held => {
                let (standing, finish) = self.leave();
                let Some(finish) = finish else {
                    return;
                };
                (finish, matches!(standing.lease, Some(Lease::Over(_))))
            }
        };
        let id = &self.held.ticket.conversation;
        self.held
            .engine
            .finish_in_background(id, &finish, self.held.lifetime, !is_told);
    }
}
