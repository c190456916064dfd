//! What goes on after its future was dropped.

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Tasks that nobody waits for, except [`finished`](Self::finished).
#[derive(Debug, Default)]
pub(crate) struct Background {
    tasks: TaskTracker,
    /// A guard may be dropped outside of any runtime: then the one in which
    /// the store was used before does the work.
    runtime: OnceLock<Handle>,
}

impl Background {
    /// Remembers the runtime of the caller.
    pub(crate) fn remember_runtime(&self) {
        if self.runtime.get().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            let _ = self.runtime.set(runtime);
        }
    }

    /// Without any runtime the work is not done; a ticket then expires.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let current = Handle::try_current().ok();
        if let Some(runtime) = current.as_ref().or_else(|| self.runtime.get()) {
            self.tasks.spawn_on(work, runtime);
        }
    }

    /// As [`spawn`](Self::spawn), for work that leaves nothing behind if it is
    /// not done: looks, and extensions.
    pub(crate) fn spawn_unwatched(&self, work: impl Future<Output = ()> + Send + 'static) {
        let current = Handle::try_current().ok();
        if let Some(runtime) = current.as_ref().or_else(|| self.runtime.get()) {
            runtime.spawn(work);
        }
    }

    /// Waits until all is done that was begun before. The tracker stays closed,
    /// which keeps nobody from spawning, so that several may wait.
    pub(crate) async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
