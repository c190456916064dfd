//! The store: what a user holds, and what all its locks share.

mod acquiring;
mod background;
mod rasa;
mod request;
mod shared;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use acquiring::Acquiring;
pub use request::{Lock, Mode, Request, TakeTicket, TryLock};
pub(crate) use shared::{Leaving, Shared};

use crate::backend::{
    Backend, Conversations, FallbackLockStore, InMemoryLockStore, RedisLockStore,
};
use crate::config::{Fallback, LockStoreConfig, RedisConfig, StoreType, Timing};
use crate::error::LockError;
use crate::guard::LockGuard;
use crate::identity::ClientId;

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
    pub async fn create(config: &LockStoreConfig) -> Result<Self, LockError> {
        let timing = config.timing.clone();
        timing.check()?;
        let redis = match config.store_type {
            StoreType::InMemory => return Ok(Self::build(InMemoryLockStore::new(), timing)),
            StoreType::Redis => RedisLockStore::begin(&config.redis)?,
        };
        match redis.first_outcome().await {
            Ok(()) => Ok(Self::build(redis, timing)),
            // What a human has to mend does not mend itself.
            Err(error) if error.is_unavailable() && config.redis.fallback == Fallback::InMemory => {
                let (fallback, phase) = FallbackLockStore::begin(redis, &error);
                let shared = Shared::new(Box::new(fallback), timing, Some(phase));
                Ok(Self { shared })
            }
            Err(error) => Err(error),
        }
    }

    /// A store on the Redis at this URL, such as
    /// `redis://user:password@localhost:6379/1`, with all else as it is by
    /// default.
    ///
    /// If Redis cannot be reached now, the locks are in memory until it can:
    /// see [`is_degraded`](Self::is_degraded). Use [`create`](Self::create) with
    /// [`Fallback::None`] for an error instead, as a fleet should.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config) when the URL is wrong or a human
    /// has to mend something else: a password, a right, a certificate.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), lock_store::LockError> {
    /// let store = lock_store::LockStore::redis("redis://localhost:6379/1").await?;
    /// let guard = store.lock("conversation-42").await?;
    /// guard.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn redis(url: impl AsRef<str>) -> Result<Self, LockError> {
        Self::create(&LockStoreConfig {
            store_type: StoreType::Redis,
            redis: RedisConfig::from_url(url.as_ref()),
            ..LockStoreConfig::default()
        })
        .await
    }

    fn build(backend: impl Backend, timing: Timing) -> Self {
        let shared = Shared::new(Box::new(backend), timing, None);
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
    #[inline]
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
        self.shared.is_degraded()
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
        self.shared.close();
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

#[inline]
pub(crate) fn check_lifetime(lifetime: Duration) -> Result<(), LockError> {
    if LIFETIMES.contains(&lifetime) {
        return Ok(());
    }
    Err(LockError::config(format!(
        "lifetime is {lifetime:?}; it must be from 1 ms to 30 days"
    )))
}
