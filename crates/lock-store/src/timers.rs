//! The timers of a store: one queue and one task for all of them.
//!
//! A timer that is set and cancelled again costs an insert and a remove; the
//! task is woken only for one that is earlier than what it sleeps for.
//!
//! The task runs where the store lives ([`Home`](crate::background::Home)). When
//! that runtime ends, the task is dropped, and says so: then every waiter is
//! polled again, and the first one that is in a living runtime starts a new one.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};

use futures_util::StreamExt as _;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use crate::acquisition::Acquisition;
use crate::engine::Engine;
use crate::identity::ConversationId;
use crate::sync::Mutex;

/// What has to be done when a time comes.
#[derive(Debug)]
pub(crate) enum Timer {
    /// Check a conversation's line.
    Line(ConversationId),
    /// Extend a lease.
    Renew(Weak<Acquisition>),
}

/// A timer that is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimerKey {
    pub(crate) at: Instant,
    /// `None` where there was no runtime to run it.
    key: Option<Key>,
    /// Which of the queues it is in: each task has its own.
    run: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: Mutex<Queue>,
    /// Whether a task ran and ended, and none runs.
    has_stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    /// Made in the runtime that it is used in, as its clock begins then.
    set: Option<DelayQueue<Timer>>,
    /// Counts the tasks that there were.
    run: u64,
    is_running: bool,
    /// Wakes the task.
    task: Option<Waker>,
}

impl Timers {
    /// Sets a timer, and starts the task on `home` if it does not run. Without a
    /// runtime no timer fires.
    pub(crate) fn set(
        &self,
        at: Instant,
        timer: Timer,
        home: Option<&Handle>,
        engine: &Weak<Engine>,
    ) -> TimerKey {
        let Some(home) = home else {
            return TimerKey {
                at,
                key: None,
                run: 0,
            };
        };
        // The queue makes its sleeps in the runtime that it is used in.
        let _inside = home.enter();
        let mut queue = self.queue.lock();
        let is_first = queue.set.is_none();
        let set = queue.set.get_or_insert_with(DelayQueue::new);
        let key = TimerKey {
            at,
            key: Some(set.insert_at(timer, at)),
            run: queue.run,
        };
        let task = queue.task.take_if(|_| is_first);
        let was_running = std::mem::replace(&mut queue.is_running, true);
        drop(queue);
        if let Some(task) = task {
            task.wake();
        }
        if !was_running {
            Self::start(home, engine);
        }
        key
    }

    /// Whether a task ran and ended with its runtime.
    pub(crate) fn has_stopped(&self) -> bool {
        self.has_stopped.load(Ordering::Acquire)
    }

    /// Starts the task again after it ended.
    pub(crate) fn restart(&self, home: &Handle, engine: &Weak<Engine>) -> bool {
        let mut queue = self.queue.lock();
        if queue.is_running || !self.has_stopped.swap(false, Ordering::AcqRel) {
            return false;
        }
        queue.is_running = true;
        drop(queue);
        Self::start(home, engine);
        true
    }

    fn start(home: &Handle, engine: &Weak<Engine>) {
        // A runtime that is shutting down drops the task here and now; so no lock
        // is held.
        let is_started = Arc::new(AtomicBool::new(false));
        let running = Running {
            engine: engine.clone(),
            is_started: is_started.clone(),
        };
        home.spawn(run(running));
        is_started.store(true, Ordering::Release);
    }

    pub(crate) fn cancel(&self, timer: TimerKey) {
        let Some(key) = timer.key else {
            return;
        };
        let mut queue = self.queue.lock();
        if queue.run == timer.run
            && let Some(set) = &mut queue.set
        {
            set.try_remove(&key);
        }
    }

    /// Ends the task soon; it holds only a weak reference to the engine.
    pub(crate) fn stop(&self) {
        if let Some(task) = self.queue.lock().task.take() {
            task.wake();
        }
    }
}

/// Says that no task runs when the task ends, also when its runtime does.
struct Running {
    engine: Weak<Engine>,
    /// Whether [`Timers::start`] is done with that.
    is_started: Arc<AtomicBool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(engine) = self.engine.upgrade() else {
            return;
        };
        let timers = &engine.timers;
        engine.background.home.has_ended();
        let mut queue = timers.queue.lock();
        // Its sleeps belong to the runtime that has ended. What was set is set
        // anew by the check that follows a restart.
        let old = queue.set.take();
        queue.run += 1;
        queue.is_running = false;
        timers.has_stopped.store(true, Ordering::Release);
        drop(queue);
        drop(old);
        if self.is_started.load(Ordering::Acquire) {
            engine.wake_all();
        } else {
            // The thread that starts it is here, with a line in its hands. If
            // there is no other thread to be had, the next poll does it.
            let _ = std::thread::Builder::new().spawn(move || engine.wake_all());
        }
    }
}

async fn run(running: Running) {
    while let Some(due) = next_due(&running.engine).await {
        let Some(engine) = running.engine.upgrade() else {
            return;
        };
        engine.on_timers(due);
    }
}

/// All timers whose time has come. `None` when the engine is gone.
async fn next_due(engine: &Weak<Engine>) -> Option<Vec<Timer>> {
    poll_fn(|cx| {
        let Some(engine) = engine.upgrade() else {
            return Poll::Ready(None);
        };
        let mut queue = engine.timers.queue.lock();
        let mut due = Vec::new();
        if let Some(set) = &mut queue.set {
            while let Poll::Ready(Some(expired)) = set.poll_next_unpin(cx) {
                due.push(expired.into_inner());
            }
        }
        if due.is_empty() {
            queue.task = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(due))
    })
    .await
}
