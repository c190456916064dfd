//! The runtime in which a store on Redis was made, where its connections live.

use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// That runtime, and whether it has ended: then every step says so at once.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) runtime: Handle,
    state: Arc<State>,
    watching: AbortHandle,
}

#[derive(Debug, Default)]
struct State {
    has_ended: AtomicBool,
    ended: Notify,
    on_end: OnceLock<OnEnd>,
}

/// What is done when the runtime ends. It has no runtime to do it in.
struct OnEnd(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for OnEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnEnd")
    }
}

/// Is dropped with its task, and so with the runtime.
struct Watching(Arc<State>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::Release);
        self.0.ended.notify_waiters();
        if let Some(on_end) = self.0.on_end.get() {
            on_end.0();
        }
    }
}

impl Home {
    pub(super) fn new(runtime: Handle) -> Self {
        let state = Arc::new(State::default());
        let watching = Watching(state.clone());
        let task = runtime.spawn(async move {
            let _watching = watching;
            pending::<()>().await;
        });
        Self {
            watching: task.abort_handle(),
            runtime,
            state,
        }
    }

    /// Has this done when the runtime ends.
    pub(super) fn on_end(&self, on_end: impl Fn() + Send + Sync + 'static) {
        let _ = self.state.on_end.set(OnEnd(Box::new(on_end)));
    }

    #[inline]
    pub(super) fn has_ended(&self) -> bool {
        self.state.has_ended.load(Ordering::Acquire)
    }

    /// Waits for the end of the runtime.
    pub(super) async fn ended(&self) {
        let ended = self.state.ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        if !self.has_ended() {
            ended.await;
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
