//! A held lock.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::{Claimed, Finished, Step};
use crate::error::LockError;
use crate::identity::{ConversationId, FencingToken, Owner};
use crate::store::{Leaving, Shared};
use crate::telemetry;
use crate::wait::{Call, Entry, Lease, Served};

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
#[derive(Debug, Clone, Copy)]
enum Stage {
    Held,
    /// Nobody watches the lease any more, but the ticket may be there.
    Leaving,
    Released,
}

#[derive(Debug)]
struct Held {
    store: Arc<Shared>,
    conversation: ConversationId,
    owner: Owner,
    served: Served,
    lifetime: Duration,
    /// What watches the lease. An uncontended lock in memory has none until
    /// it is asked for something that needs it.
    entry: OnceLock<Arc<Entry>>,
}

impl LockGuard {
    /// A guard whose lease nobody else needs to know of.
    #[inline]
    pub(crate) fn unwatched(
        store: Arc<Shared>,
        conversation: ConversationId,
        owner: Owner,
        served: Served,
        lifetime: Duration,
    ) -> Self {
        Self {
            held: Box::new(Held {
                store,
                conversation,
                owner,
                served,
                lifetime,
                entry: OnceLock::new(),
            }),
            stage: Stage::Held,
        }
    }

    /// A guard for an entry whose turn has come.
    pub(crate) fn watched(store: Arc<Shared>, entry: Arc<Entry>, served: Served) -> Self {
        Self {
            held: Box::new(Held {
                store,
                conversation: entry.conversation.clone(),
                owner: entry.owner,
                served,
                lifetime: entry.lifetime(),
                entry: OnceLock::from(entry),
            }),
            stage: Stage::Held,
        }
    }

    /// Has the store extend the lease from now on.
    pub(crate) fn keep_alive(&self) {
        let entry = self.watch(true);
        self.held.store.schedule_renewal(entry);
    }

    /// The conversation that is locked.
    pub fn conversation_id(&self) -> &ConversationId {
        &self.held.conversation
    }

    /// A number that is higher than that of every earlier holder.
    pub fn fencing_token(&self) -> FencingToken {
        self.held.served.fencing_token
    }

    /// The number on the ticket: how many came before it since the queue was
    /// last empty.
    pub fn ticket_number(&self) -> u64 {
        self.held.served.number
    }

    /// Until when the lock is surely ours, unless it is extended. It was
    /// counted from before the storage was asked, so it is never later than
    /// what the storage thinks.
    #[inline]
    pub fn deadline(&self) -> std::time::Instant {
        let lease = self.held.entry.get().map(|entry| entry.lease());
        self.deadline_of(lease.as_ref()).into_std()
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
        let entry = self.watch_closely().await;
        loop {
            let changed = entry.lease_changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            self.held.store.alarms.keep_running(&self.held.store.me);
            match entry.lease() {
                Lease::Over(error) => return error,
                Lease::Until(until) if until <= Instant::now() => {
                    let error = self.lost_error();
                    self.held.store.end(entry, error.clone());
                    return error;
                }
                Lease::Until(until) => tokio::select! {
                    () = &mut changed => {}
                    () = tokio::time::sleep_until(until) => {}
                },
            }
        }
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
        crate::store::check_lifetime(lifetime)?;
        if let Some(error) = self.loss() {
            return Err(error);
        }
        let entry = self.watch(false);
        let extending = entry.extending.lock().await;
        let asked = Instant::now();
        if entry.expect(asked, lifetime) {
            self.held.store.schedule_renewal_within(entry, lifetime);
        }
        let claim = self.held.store.claim_for(entry, lifetime, asked);
        let operation = telemetry::operation("claim");
        let answer = self
            .held
            .store
            .backend
            .claim(&self.held.conversation, &claim);
        let answer = answer.resolve().await;
        drop((operation, extending));
        if matches!(answer, Ok(Claimed::Served { .. })) {
            entry.set_lifetime(lifetime);
        }
        let outcome = answer.as_ref().err().cloned();
        self.held.store.on_claimed(entry, asked, lifetime, answer);
        match outcome {
            Some(error) => Err(error.for_conversation(&self.held.conversation)),
            None => self.loss().map_or(Ok(()), Err),
        }
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
        let lease = self.held.entry.get().map(|entry| entry.lease());
        self.leave();
        let operation = telemetry::operation("finish");
        let (store, id) = (&self.held.store, &self.held.conversation);
        let number = Some(self.held.served.number);
        let mut call = Call::AtOnce;
        let answer = match store.finish(id, Leaving::now(self.held.owner, number)) {
            Step::Done(answer) => answer,
            // A storage that had to be asked twice cannot know whether the
            // ticket was there the first time: the deadline decides.
            Step::Pending(reply) => {
                call = Call::CanBeLost;
                reply.await.map(|finished| Finished {
                    found: finished.found
                        && (!finished.in_doubt
                            || Instant::now() < self.deadline_of(lease.as_ref())),
                    ..finished
                })
            }
        };
        drop(operation);
        let finished = answer.map_err(|error| error.for_conversation(id))?;
        self.stage = Stage::Released;
        self.held.store.watch_promoted(id, &finished, call);
        match lease {
            Some(Lease::Over(error)) => Err(error),
            _ if finished.found => Ok(()),
            _ => {
                let error = self.lost_error();
                telemetry::lost(&error);
                Err(error)
            }
        }
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
        self.held
            .entry
            .get()
            .map_or_else(|| Lease::Until(self.first_deadline()), |e| e.lease())
    }

    /// The end of the lease, as its entry knows it, or as it began.
    fn deadline_of(&self, lease: Option<&Lease>) -> Instant {
        match lease {
            Some(Lease::Until(until)) => *until,
            Some(Lease::Over(_)) | None => self.first_deadline(),
        }
    }

    /// The end of the lease as it began.
    fn first_deadline(&self) -> Instant {
        self.held.served.asked + self.held.lifetime
    }

    fn loss(&self) -> Option<LockError> {
        match self.lease() {
            Lease::Over(error) => Some(error),
            Lease::Until(until) => (until <= Instant::now()).then(|| self.lost_error()),
        }
    }

    /// The loss, if its entry knows: then it was reported, too.
    #[inline]
    fn told_loss(&self) -> Option<LockError> {
        match self.held.entry.get()?.lease() {
            Lease::Over(error) => Some(error),
            Lease::Until(_) => None,
        }
    }

    fn lost_error(&self) -> LockError {
        LockError::lost(&self.held.conversation)
    }

    /// The entry that watches the lease.
    fn watch(&self, keep_alive: bool) -> &Arc<Entry> {
        self.held.entry.get_or_init(|| {
            let entry = Entry::waiting(
                self.held.conversation.clone(),
                self.held.owner,
                self.held.served.asked,
                None,
                self.held.lifetime,
                keep_alive,
            );
            entry.serve(
                self.held.served.number,
                self.held.served.fencing_token,
                self.held.served.asked,
                self.held.lifetime,
            );
            self.held
                .store
                .lines
                .add(entry.clone(), None, &self.held.store);
            entry
        })
    }

    /// The entry that watches the lease, sure that the ticket was there when
    /// it began to.
    async fn watch_closely(&self) -> &Arc<Entry> {
        if let Some(entry) = self.held.entry.get() {
            return entry;
        }
        let entry = self.watch(false);
        if let Ok(lock) = self
            .held
            .store
            .backend
            .get(&self.held.conversation)
            .resolve()
            .await
            && !lock.is_some_and(|lock| lock.has_ticket_of(self.held.owner))
        {
            self.held.store.end(entry, self.lost_error());
        }
        entry
    }

    /// Stops watching the lease, before the ticket is given back: a claim that
    /// is under way will find it gone, and that is no loss then.
    #[inline]
    fn leave(&mut self) {
        self.stage = Stage::Leaving;
        if let Some(entry) = self.held.entry.get() {
            self.held.store.retire(entry);
        }
        let (asked, number) = (self.held.served.asked, self.held.served.number);
        telemetry::released(&self.held.conversation, number, || asked.elapsed());
    }
}

impl Drop for LockGuard {
    #[inline]
    fn drop(&mut self) {
        let told = match self.stage {
            Stage::Released => return,
            // A release was under way, and may have been done.
            Stage::Leaving => true,
            Stage::Held => {
                let told = self.told_loss().is_some();
                self.leave();
                told
            }
        };
        let (store, id) = (&self.held.store, &self.held.conversation);
        let number = Some(self.held.served.number);
        let leaving = Leaving::by_itself(self.held.owner, number, self.held.lifetime);
        store.finish_in_background(id, leaving, !told);
    }
}
