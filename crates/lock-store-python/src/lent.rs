//! A guard or a place that several futures use until one takes it away.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, RwLock, TryLockError};

/// A value that is lent to futures, and taken away once.
pub(crate) struct Lent<T> {
    value: RwLock<Option<T>>,
    /// Whether somebody wants to take it away.
    wanted: AtomicBool,
    want: Notify,
}

impl<T> Lent<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: RwLock::new(Some(value)),
            wanted: AtomicBool::new(false),
            want: Notify::new(),
        }
    }

    /// Whether it is taken, or about to be.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Whoever borrows it gives it back at once. `false` if somebody wanted it
    /// before.
    pub(crate) fn want(&self) -> bool {
        let is_first = !self.wanted.swap(true, Ordering::AcqRel);
        self.want.notify_waiters();
        is_first
    }

    /// Takes what is left of it, unless it is borrowed just now.
    pub(crate) fn try_take(&self) -> Result<Option<T>, TryLockError> {
        Ok(self.value.try_write()?.take())
    }

    /// Takes it as soon as nobody borrows it.
    pub(crate) async fn take(&self) -> Option<T> {
        self.value.write().await.take()
    }

    /// Looks at it, if it is there.
    pub(crate) fn look<R>(&self, at: impl FnOnce(&T) -> R) -> Option<R> {
        self.value.try_read().ok()?.as_ref().map(at)
    }

    /// Uses it until somebody wants to take it away: then `None`.
    pub(crate) async fn borrow<R, F>(&self, with: F) -> Option<R>
    where
        F: AsyncFnOnce(&T) -> R,
    {
        let wanted = self.want.notified();
        tokio::pin!(wanted);
        // From here on it is not missed.
        wanted.as_mut().enable();
        if self.is_wanted() {
            return None;
        }
        let value = self.value.read().await;
        let value = value.as_ref()?;
        tokio::select! {
            biased;
            result = with(value) => Some(result),
            () = &mut wanted => None,
        }
    }
}

/// What is given back when the process exits.
pub(crate) trait GiveBack: Send + Sync {
    fn give_back(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl<T: Send + Sync + 'static> GiveBack for Lent<T> {
    fn give_back(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.want();
        Box::pin(async move { drop(self.take().await) })
    }
}
