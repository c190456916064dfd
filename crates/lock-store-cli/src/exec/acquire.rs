//! Acquiring the lock.

use std::time::{Duration, Instant};

use lock_store::{LockError, LockErrorKind, LockGuard, LockStore};

use crate::args::ExecArgs;
use crate::pauses::Pauses;

pub(super) enum NotAcquired {
    /// It is somebody else's, for longer than we wait.
    Conflict(String),
    Failed(LockError),
}

pub(super) async fn acquire(store: &LockStore, args: &ExecArgs) -> Result<LockGuard, NotAcquired> {
    if !args.no_wait {
        return wait(store, args).await;
    }
    let tried = store.try_lock(&args.id).keep_alive(true).await;
    tried.map_err(NotAcquired::Failed)?.ok_or_else(|| {
        let why = format!("the lock of {:?} is taken; not waiting for it", args.id);
        NotAcquired::Conflict(why)
    })
}

/// Asks until the turn comes, or for as long as is wanted.
async fn wait(store: &LockStore, args: &ExecArgs) -> Result<LockGuard, NotAcquired> {
    let since = Instant::now();
    let limit = args.wait_timeout.unwrap_or(Duration::MAX);
    let mut pauses = Pauses::new();
    loop {
        let left = limit.saturating_sub(since.elapsed());
        let asked = store
            .lock(&args.id)
            .wait_timeout(left)
            .keep_alive(true)
            .await;
        match asked {
            Ok(guard) => return Ok(guard),
            Err(error) if error.is_timed_out() => {
                return Err(NotAcquired::Conflict(timed_out(args)));
            }
            Err(error)
                if may_pass(&error) && pauses.fits_into(limit.saturating_sub(since.elapsed())) =>
            {
                tracing::warn!(target: "lock_store", %error, "asking again for the lock");
                pauses.pause().await;
            }
            Err(error) => return Err(NotAcquired::Failed(error)),
        }
    }
}

fn timed_out(args: &ExecArgs) -> String {
    let seconds = args.wait_timeout.unwrap_or_default().as_secs_f64();
    let id = &args.id;
    format!("the lock of {id:?} was taken for {seconds} s; allow more with --wait-timeout")
}

/// Whether another ticket may do better.
fn may_pass(error: &LockError) -> bool {
    matches!(
        error.kind(),
        LockErrorKind::Unavailable
            | LockErrorKind::NotReplicated
            | LockErrorKind::Gone
            | LockErrorKind::Lost
    )
}
