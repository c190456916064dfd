//! The answer of a backend: there already, or to be waited for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::error::LockError;

type Reply<T> = Pin<Box<dyn Future<Output = Result<T, LockError>> + Send + 'static>>;

/// The answer of a backend.
///
/// A backend in memory answers at once, and pays for no future; all others
/// return a future.
///
/// ```
/// use lock_store::Step;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), lock_store::LockError> {
/// assert_eq!(Step::ready(1).resolve().await?, 1);
/// assert_eq!(Step::pending(async { Ok(2) }).resolve().await?, 2);
/// # Ok(())
/// # }
/// ```
pub enum Step<T> {
    /// It is done.
    Done(Result<T, LockError>),
    /// It is done when the future says so. The future may be dropped at any
    /// point; whether the step is then carried out is open.
    Pending(Reply<T>),
    /// As `Pending`; and the backend itself sees to it that the answer comes
    /// before its caller gives up: of an issue, within its wait timeout.
    Timely(Reply<T>),
}

impl<T> Step<T> {
    /// An answer that is there.
    pub fn ready(value: T) -> Self {
        Self::Done(Ok(value))
    }

    /// An answer that has to be waited for.
    pub fn pending(reply: impl Future<Output = Result<T, LockError>> + Send + 'static) -> Self {
        Self::Pending(Box::pin(reply))
    }

    /// An answer that has to be waited for, no longer than its caller waits.
    pub fn timely(reply: impl Future<Output = Result<T, LockError>> + Send + 'static) -> Self {
        Self::Timely(Box::pin(reply))
    }

    /// Waits for the answer.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the step may or may not be carried out.
    pub async fn resolve(self) -> Result<T, LockError> {
        match self {
            Self::Done(answer) => answer,
            Self::Pending(reply) | Self::Timely(reply) => reply.await,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Step<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(answer) => f.debug_tuple("Done").field(answer).finish(),
            Self::Pending(_) | Self::Timely(_) => f.write_str("Pending"),
        }
    }
}
