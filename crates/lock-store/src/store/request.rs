//! Asking for a lock: what is asked for, with which options.

use std::fmt;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::{LockStore, Shared, check_lifetime};
use crate::error::LockError;
use crate::guard::LockGuard;
use crate::identity::ConversationId;

/// A request for a lock, to be awaited; see [`LockStore::lock`].
///
/// What is not set comes from the store's configuration.
#[must_use = "a request does nothing unless it is awaited"]
pub struct Request<'s, M: Mode> {
    pub(super) store: &'s Arc<Shared>,
    /// Until it is polled.
    conversation: Option<Result<ConversationId, LockError>>,
    pub(super) options: Options,
    mode: PhantomData<M>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) lifetime: Duration,
    /// `None` is as long as the lifetime.
    pub(super) wait_timeout: Option<Duration>,
    pub(super) keep_alive: bool,
    /// Whether to join the queue if somebody is in it.
    pub(super) queue: bool,
}

impl<'s, M: Mode> Request<'s, M> {
    #[inline]
    pub(super) fn new(store: &'s LockStore, conversation_id: &str) -> Self {
        let timing = &store.shared.timing;
        Self {
            store: &store.shared,
            conversation: Some(ConversationId::new(conversation_id)),
            options: Options {
                lifetime: timing.lock_lifetime,
                wait_timeout: timing.wait_timeout,
                keep_alive: timing.keep_alive,
                queue: M::QUEUES,
            },
            mode: PhantomData,
        }
    }

    /// How long the lease is: from the turn on, waiting not included. From
    /// 1 ms to 30 days.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.options.lifetime = lifetime;
        self
    }

    /// How long to wait for the turn at most. 30 days or more, such as
    /// [`Duration::MAX`], is without limit.
    pub fn wait_timeout(mut self, wait_timeout: Duration) -> Self {
        self.options.wait_timeout = Some(wait_timeout);
        self
    }

    /// Whether the store extends the lease, every third of the lifetime, until
    /// the lock is released or lost.
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.options.keep_alive = keep_alive;
        self
    }
}

impl Request<'_, Lock> {
    /// As [`LockStore::run`], with these options.
    pub async fn run<T>(self, work: impl AsyncFnOnce(&LockGuard) -> T) -> Result<T, LockError> {
        let guard = self.await?;
        let outcome = {
            let work = pin!(work(&guard));
            let lost = pin!(guard.lost());
            tokio::select! {
                biased;
                value = work => Ok(value),
                error = lost => Err(error),
            }
        }?;
        match guard.release().await {
            // The work was protected; the rest is done in the background.
            Err(error) if error.is_unavailable() => Ok(outcome),
            Err(error) => Err(error),
            Ok(()) => Ok(outcome),
        }
    }
}

/// What an answered request becomes.
///
/// Implemented by [`Lock`], [`TryLock`] and [`TakeTicket`], and by nothing else.
pub trait Mode: sealed::Answer {}

/// The mode of [`LockStore::lock`].
#[derive(Debug)]
pub enum Lock {}

/// The mode of [`LockStore::try_lock`].
#[derive(Debug)]
pub enum TryLock {}

/// The mode of [`LockStore::take_ticket`].
#[derive(Debug)]
pub enum TakeTicket {}

impl Mode for Lock {}
impl Mode for TryLock {}
impl Mode for TakeTicket {}

pub(crate) mod sealed {
    use crate::guard::LockGuard;
    use crate::store::acquiring::{Settled, Standing};
    use crate::wait::Place;

    #[allow(private_interfaces)] // sealed: nobody else calls it
    pub trait Answer: 'static {
        type Output: Send + 'static;
        const QUEUES: bool;
        fn served(guard: LockGuard) -> Self::Output;
        fn settle(standing: Standing) -> Settled<Self::Output>;
    }

    #[allow(private_interfaces)]
    impl Answer for super::Lock {
        type Output = LockGuard;
        const QUEUES: bool = true;

        fn served(guard: LockGuard) -> LockGuard {
            guard
        }

        fn settle(standing: Standing) -> Settled<LockGuard> {
            match standing {
                Standing::Served(guard) => Settled::Now(guard),
                Standing::InLine(line) => Settled::AtItsTurn(line),
                Standing::Taken => unreachable!("a request that queues is never told `Taken`"),
            }
        }
    }

    #[allow(private_interfaces)]
    impl Answer for super::TryLock {
        type Output = Option<LockGuard>;
        const QUEUES: bool = false;

        fn served(guard: LockGuard) -> Option<LockGuard> {
            Some(guard)
        }

        fn settle(standing: Standing) -> Settled<Option<LockGuard>> {
            match standing {
                Standing::Served(guard) => Settled::Now(Some(guard)),
                // Whoever is in line after all gives the ticket back.
                Standing::InLine(_) | Standing::Taken => Settled::Now(None),
            }
        }
    }

    #[allow(private_interfaces)]
    impl Answer for super::TakeTicket {
        type Output = Place;
        const QUEUES: bool = true;

        fn served(guard: LockGuard) -> Place {
            Place::served(guard)
        }

        fn settle(standing: Standing) -> Settled<Place> {
            match standing {
                Standing::Served(guard) => Settled::Now(Place::served(guard)),
                Standing::InLine(line) => Settled::Now(Place::in_line(line)),
                Standing::Taken => unreachable!("a request that queues is never told `Taken`"),
            }
        }
    }
}

impl<M: Mode> Request<'_, M> {
    /// What it asks for, once.
    #[inline]
    pub(super) fn check(&mut self) -> Result<ConversationId, LockError> {
        self.store.check_open()?;
        check_lifetime(self.options.lifetime)?;
        self.conversation
            .take()
            .unwrap_or_else(|| unreachable!("taken only once, when it is fresh"))
    }
}

impl<M: Mode> fmt::Debug for Request<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("conversation", &self.conversation)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
