//! The store: what a user holds, and what all its locks share.

mod background;
mod rasa;
mod request;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

pub use request::{Acquiring, Lock, Mode, Request, TakeTicket, TryLock};

use crate::alarm::Alarms;
use crate::backend::{
    Backend, Conversations, Finish, Finished, InMemoryLockStore, Listener, Step, TicketName,
};
use crate::config::{LockStoreConfig, StoreType, Timing};
use crate::error::LockError;
use crate::guard::LockGuard;
use crate::identity::{ClientId, ConversationId, Owner};
use crate::telemetry;
use crate::wait::{Lines, Watched};
use background::Background;

/// The shortest and the longest lease.
pub(crate) const LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(30 * 24 * 3600);

/// A wait at least this long is without limit for its owner. The storage keeps
/// the ticket that long.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Locks for conversations: messages of one conversation are handled one at a
/// time, in the order in which they arrived; different conversations in
/// parallel.
///
/// A handle: cheap to clone, shared by all tasks. Waiting and timers need a
/// tokio runtime; an uncontended lock in memory does not.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), lock_store::LockError> {
/// use lock_store::LockStore;
///
/// let store = LockStore::in_memory();
/// let guard = store.lock("conversation-42").await?;
/// // One message of the conversation is handled here.
/// guard.release().await?;
/// store.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LockStore {
    shared: Arc<Shared>,
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
    closed: AtomicBool,
}

impl LockStore {
    /// A store in the memory of this process, with Rasa's times.
    pub fn in_memory() -> Self {
        Self::new(InMemoryLockStore::new())
    }

    /// A store on a backend of yours, or one that several stores share.
    pub fn new(backend: impl Backend) -> Self {
        Self::build(backend, Timing::default())
    }

    /// As [`new`](Self::new), with these times.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config) for a time that is out of range.
    pub fn with_timing(backend: impl Backend, timing: Timing) -> Result<Self, LockError> {
        timing.check()?;
        Ok(Self::build(backend, timing))
    }

    /// The store that a configuration describes.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config) when it cannot be built.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), lock_store::LockError> {
    /// use lock_store::{LockStore, LockStoreConfig};
    ///
    /// let config = LockStoreConfig::from_yaml("lock_store:\n  lock_lifetime: 30\n")?;
    /// let store = LockStore::create(&config).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::unused_async)] // connecting to a server takes its time
    pub async fn create(config: &LockStoreConfig) -> Result<Self, LockError> {
        match config.store_type {
            StoreType::InMemory => {
                Self::with_timing(InMemoryLockStore::new(), config.timing.clone())
            }
            StoreType::Redis => Err(LockError::config(
                "lock_store: type `redis` is not built in; use `in_memory`",
            )),
        }
    }

    fn build(backend: impl Backend, timing: Timing) -> Self {
        let shared = Arc::new_cyclic(|me: &Weak<Shared>| Shared {
            backend: Box::new(backend),
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
        Self { shared }
    }

    /// Locks a conversation: waits until every ticket taken before is done.
    ///
    /// The ticket is taken when the returned [`Request`] is first polled. By
    /// default it waits as long as a lifetime.
    ///
    /// # Errors
    ///
    /// Timed out, gone, unavailable, corrupt, closed, an invalid id, or a time
    /// out of range; see [`LockErrorKind`](crate::LockErrorKind).
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point: the ticket leaves the queue in the
    /// background, and the next in line is served.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), lock_store::LockError> {
    /// use std::time::Duration;
    ///
    /// let store = lock_store::LockStore::in_memory();
    /// let guard = store
    ///     .lock("conversation-42")
    ///     .lifetime(Duration::from_secs(30))
    ///     .wait_timeout(Duration::from_secs(10))
    ///     .keep_alive(true)
    ///     .await?;
    /// assert_eq!(guard.ticket_number(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lock(&self, conversation_id: impl AsRef<str>) -> Request<'_, Lock> {
        Request::new(self, conversation_id.as_ref())
    }

    /// Locks a conversation if nobody else is there: `None` when somebody is,
    /// and then no ticket is taken.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), but it never waits for a turn.
    ///
    /// # Cancel safety
    ///
    /// As [`lock`](Self::lock).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), lock_store::LockError> {
    /// let store = lock_store::LockStore::in_memory();
    /// let guard = store.try_lock("conversation-42").await?;
    /// assert!(guard.is_some());
    /// assert!(store.try_lock("conversation-42").await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_lock(&self, conversation_id: impl AsRef<str>) -> Request<'_, TryLock> {
        Request::new(self, conversation_id.as_ref())
    }

    /// Takes a ticket and returns at once with a [`Place`](crate::Place) in
    /// line: in order from here on, to be waited for later.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), but it does not wait for the turn.
    ///
    /// # Cancel safety
    ///
    /// As [`lock`](Self::lock).
    pub fn take_ticket(&self, conversation_id: impl AsRef<str>) -> Request<'_, TakeTicket> {
        Request::new(self, conversation_id.as_ref())
    }

    /// Locks a conversation, does `work`, releases. The work is stopped
    /// (dropped at its next await) when the lock is lost.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and lost: also when the work had come to its
    /// end, but after the lease's.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the work is dropped and then the lock is released.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), lock_store::LockError> {
    /// let store = lock_store::LockStore::in_memory();
    /// let answer = store
    ///     .run("conversation-42", async |guard| guard.ticket_number() + 42)
    ///     .await?;
    /// assert_eq!(answer, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run<T>(
        &self,
        conversation_id: impl AsRef<str>,
        work: impl AsyncFnOnce(&LockGuard) -> T,
    ) -> Result<T, LockError> {
        self.lock(conversation_id).run(work).await
    }

    /// The ids of all conversations that have a lock, in no order.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), lock_store::LockError> {
    /// use futures_util::TryStreamExt;
    ///
    /// let store = lock_store::LockStore::in_memory();
    /// let _guard = store.lock("conversation-42").await?;
    /// let ids: Vec<_> = store.conversations().try_collect().await?;
    /// assert_eq!(ids[0].as_str(), "conversation-42");
    /// # Ok(())
    /// # }
    /// ```
    pub fn conversations(&self) -> Conversations {
        self.shared.backend.list()
    }

    /// Whether the store serves from memory although it should not: only ever
    /// true for a store whose storage could not be reached at the start.
    pub fn is_degraded(&self) -> bool {
        false
    }

    /// Takes no new locks, and waits until everything that was dropped is
    /// released. Guards that are still held stay good.
    ///
    /// # Errors
    ///
    /// None in memory; reserved for storages that have to say goodbye.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point; the store stays closed.
    pub async fn close(&self) -> Result<(), LockError> {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.background.finished().await;
        Ok(())
    }

    /// The storage behind the store, for programs that take the steps of a
    /// ticket themselves. The store knows nothing of tickets issued this way.
    pub fn backend(&self) -> &dyn Backend {
        &*self.shared.backend
    }

    /// Who this store is to the others.
    pub fn client_id(&self) -> ClientId {
        self.shared.client
    }
}

impl fmt::Debug for LockStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockStore")
            .field("client", &self.shared.client)
            .field("backend", &self.shared.backend)
            .field("timing", &self.shared.timing)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn next_owner(&self) -> Owner {
        Owner {
            client: self.client,
            sequence: self.next_sequence.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(crate) fn check_open(&self) -> Result<(), LockError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(LockError::new(crate::LockErrorKind::Closed));
        }
        Ok(())
    }

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

pub(crate) fn check_lifetime(lifetime: Duration) -> Result<(), LockError> {
    if LIFETIMES.contains(&lifetime) {
        return Ok(());
    }
    Err(LockError::config(format!(
        "lifetime is {lifetime:?}; it must be from 1 ms to 30 days"
    )))
}
