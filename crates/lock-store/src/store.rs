//! The store: what a user holds, and what all its locks share.

mod rasa;

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{
    Backend, Conversations, FallbackLockStore, InMemoryLockStore, RedisLockStore,
};
use crate::config::{Fallback, LockStoreConfig, RedisConfig, StoreType, Timing};
use crate::engine::Engine;
use crate::error::LockError;
use crate::guard::LockGuard;
use crate::identity::ClientId;
use crate::request::{Lock, Request, TakeTicket, TryLock};

/// How long [`LockStore::close`] waits.
pub const DEFAULT_CLOSE_LIMIT: Duration = Duration::from_secs(5);

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
    engine: Arc<Engine>,
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
        config.validate()?;
        let timing = config.timing.clone();
        let redis = match config.store_type {
            StoreType::InMemory => return Ok(Self::build(InMemoryLockStore::new(), timing)),
            StoreType::Redis => {
                RedisLockStore::begin(&config.redis, config.client_name.as_deref())?
            }
        };
        match redis.first_outcome().await {
            Ok(()) => Ok(Self::build(redis, timing)),
            // What a human has to mend does not mend itself.
            Err(error) if error.is_unavailable() && config.redis.fallback == Fallback::InMemory => {
                let (fallback, phase) = FallbackLockStore::begin(redis, &error);
                let engine = Engine::new(Box::new(fallback), timing, Some(phase));
                Ok(Self { engine })
            }
            Err(error) => Err(error),
        }
    }

    /// A store on the Redis at this URL, such as
    /// `redis://user:password@localhost:6379/1`, with all else as it is by
    /// default.
    ///
    /// For locks in memory until Redis can be reached use
    /// [`create`](Self::create) with [`Fallback::InMemory`].
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::LockErrorKind::Unavailable) when Redis cannot be
    /// reached now; trying again may help.
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
        let engine = Engine::new(Box::new(backend), timing, None);
        Self { engine }
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
    pub fn lock(&self, conversation_id: impl AsRef<str>) -> Request<Lock> {
        Request::new(&self.engine, conversation_id.as_ref())
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
    pub fn try_lock(&self, conversation_id: impl AsRef<str>) -> Request<TryLock> {
        Request::new(&self.engine, conversation_id.as_ref())
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
    pub fn take_ticket(&self, conversation_id: impl AsRef<str>) -> Request<TakeTicket> {
        Request::new(&self.engine, conversation_id.as_ref())
    }

    /// As [`lock`](Self::lock), for threads without a runtime, with the options of
    /// the store.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    ///
    /// # Panics
    ///
    /// In an asynchronous context, as it would block the executor.
    ///
    /// ```
    /// let store = lock_store::LockStore::in_memory();
    /// let guard = store.blocking_lock("conversation-42")?;
    /// // One message of the conversation is handled here.
    /// guard.blocking_release()?;
    /// # Ok::<(), lock_store::LockError>(())
    /// ```
    pub fn blocking_lock(&self, conversation_id: impl AsRef<str>) -> Result<LockGuard, LockError> {
        let request = self.lock(conversation_id);
        self.engine.background.block_on(request.into_future())
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
        self.engine.backend.list()
    }

    /// Whether the store serves from memory although it should not: only ever
    /// true for a store whose storage could not be reached at the start.
    pub fn is_degraded(&self) -> bool {
        self.engine.is_degraded()
    }

    /// Takes no new locks, and waits until everything that was dropped is
    /// given back, for [`DEFAULT_CLOSE_LIMIT`] at most. Guards that are still
    /// held stay good.
    ///
    /// # Errors
    ///
    /// As [`close_within`](Self::close_within).
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any point; the store stays closed.
    pub async fn close(&self) -> Result<(), LockError> {
        self.close_within(DEFAULT_CLOSE_LIMIT).await
    }

    /// As [`close`](Self::close), with a limit of your own.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::LockErrorKind::Unavailable) when the storage has
    /// not answered by then, with the number of tickets that were not given
    /// back. They are tried further as long as the process lives, and expire.
    ///
    /// # Cancel safety
    ///
    /// As [`close`](Self::close).
    pub async fn close_within(&self, limit: Duration) -> Result<(), LockError> {
        self.engine.close();
        let background = &self.engine.background;
        // Where nothing is left to be done, no runtime is needed.
        if background.under_way() == 0 {
            return Ok(());
        }
        let finished = tokio::time::timeout(limit, background.finished()).await;
        if finished.is_ok() {
            return Ok(());
        }
        let left = background.under_way();
        let (tickets, were) = if left == 1 {
            ("ticket", "was")
        } else {
            ("tickets", "were")
        };
        Err(LockError::unavailable(format!(
            "{left} {tickets} {were} not given back within {limit:?}; they expire"
        )))
    }

    /// The storage behind the store, for programs that take the steps of a
    /// ticket themselves. The store knows nothing of tickets issued this way.
    pub fn backend(&self) -> &dyn Backend {
        &*self.engine.backend
    }

    /// Who this store is to the others.
    pub fn client_id(&self) -> ClientId {
        self.engine.client
    }
}

impl fmt::Debug for LockStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockStore")
            .field("client", &self.engine.client)
            .field("backend", &self.engine.backend)
            .field("timing", &self.engine.timing)
            .finish_non_exhaustive()
    }
}
