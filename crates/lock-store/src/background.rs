//! Where the work of a store goes on after its future was dropped.

use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::sync::Mutex;

/// The runtime that a store lives in, whatever runtimes its callers are in: a
/// caller's may end at any time.
#[derive(Debug, Default)]
pub(crate) struct Home(Mutex<Option<Handle>>);

impl Home {
    /// The runtime in which the store was made, or used first; or used first
    /// since that one has ended.
    pub(crate) fn handle(&self) -> Option<Handle> {
        let mut home = self.0.lock();
        if home.is_none() {
            *home = Handle::try_current().ok();
        }
        home.clone()
    }

    /// That runtime has ended, as a task of the store has noticed.
    pub(crate) fn has_ended(&self) {
        *self.0.lock() = None;
    }
}

/// Tasks that no caller waits for, except [`finished`](Self::finished).
#[derive(Debug, Default)]
pub(crate) struct Background {
    pub(crate) home: Home,
    tasks: TaskTracker,
}

impl Background {
    /// Without any runtime the work is not done; a ticket then expires.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(home) = self.home.handle() {
            self.tasks.spawn_on(work, &home);
        }
    }

    /// As [`spawn`](Self::spawn), for work that leaves nothing behind if it is
    /// not done: checks, and extensions.
    pub(crate) fn spawn_unwatched(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(home) = self.home.handle() {
            home.spawn(work);
        }
    }

    /// Does work for a thread, and blocks it: in the store's runtime, or in one
    /// of its own.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        if let Some(home) = self.home.handle() {
            return home.block_on(work);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(work),
            // As tokio itself does where a runtime is needed and cannot be had.
            Err(error) => panic!("no runtime to wait in: {error}"),
        }
    }

    /// How many tasks are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until all is done that was begun before. The tracker stays closed,
    /// which keeps nothing from being spawned, so that several may wait.
    pub(crate) async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
