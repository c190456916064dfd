//! The timers of a store: one sorted set and one task for all of them.
//!
//! A timer per waiter would cost more than the hand-off that it watches. Here
//! a timer that is set and cancelled again costs an insert and a remove; the
//! task is woken only when a timer comes before the one it sleeps for, and it
//! goes on sleeping when that one is cancelled.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::identity::ConversationId;
use crate::store::Shared;
use crate::sync::{Mutex, MutexGuard};
use crate::wait::Entry;

/// What has to be done when the time comes.
#[derive(Debug)]
pub(crate) enum Alarm {
    /// See after a conversation's line.
    Look(ConversationId),
    /// See whether somebody else's ticket, which we promoted, was claimed.
    Watch(ConversationId),
    /// Extend a lease.
    Renew(Weak<Entry>),
}

/// A set alarm: when, and which of those that are set for then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AlarmKey {
    pub(crate) at: Instant,
    number: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Alarms {
    state: Mutex<State>,
    earlier: Arc<Notify>,
    /// Whether the task ran and ended.
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    set: BTreeMap<AlarmKey, Alarm>,
    last_number: u64,
    /// What the task sleeps for; it may be earlier than every alarm.
    sleeping_until: Option<Instant>,
    running: bool,
}

impl Alarms {
    /// Sets an alarm, and starts the task if it does not run.
    pub(crate) fn set(&self, at: Instant, alarm: Alarm, store: &Weak<Shared>) -> AlarmKey {
        let mut state = self.state.lock();
        state.last_number += 1;
        let key = AlarmKey {
            at,
            number: state.last_number,
        };
        state.set.insert(key, alarm);
        if !state.running {
            self.start(state, store);
        } else if state.sleeping_until.is_none_or(|sleeping| at < sleeping) {
            state.sleeping_until = Some(at);
            drop(state);
            self.earlier.notify_one();
        }
        key
    }

    /// Starts the task if it does not run although alarms are set: the runtime
    /// in which it ran may be gone.
    pub(crate) fn keep_running(&self, store: &Weak<Shared>) {
        if self.stopped.load(Ordering::Acquire) {
            self.start(self.state.lock(), store);
        }
    }

    fn start(&self, mut state: MutexGuard<'_, State>, store: &Weak<Shared>) {
        if !state.running
            && let Ok(runtime) = Handle::try_current()
        {
            state.running = true;
            self.stopped.store(false, Ordering::Release);
            // A runtime that is shutting down drops the task here and now, and
            // the task then says that it does not run.
            drop(state);
            let is_started = Arc::new(AtomicBool::new(false));
            let running = Running {
                store: store.clone(),
                is_started: is_started.clone(),
            };
            runtime.spawn(keep_time(running, self.earlier.clone()));
            is_started.store(true, Ordering::Release);
        }
    }

    pub(crate) fn cancel(&self, key: AlarmKey) {
        self.state.lock().set.remove(&key);
    }

    /// Ends the task soon; it holds only a weak reference to the store.
    pub(crate) fn stop(&self) {
        self.earlier.notify_one();
    }

    /// Takes the alarms whose time has come.
    fn take_due(&self, now: Instant) -> Vec<Alarm> {
        let mut state = self.state.lock();
        let mut due = Vec::new();
        while let Some(first) = state
            .set
            .first_entry()
            .filter(|first| first.key().at <= now)
        {
            due.push(first.remove());
        }
        due
    }

    fn fall_asleep(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        state.sleeping_until = state.set.keys().next().map(|key| key.at);
        state.sleeping_until
    }
}

/// Says that no task runs when the task ends, also when its runtime does: a
/// store may outlive the runtime in which it was first used.
struct Running {
    store: Weak<Shared>,
    /// Whether whoever started the task is done with that.
    is_started: Arc<AtomicBool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(store) = self.store.upgrade() else {
            return;
        };
        let mut state = store.alarms.state.lock();
        state.running = false;
        store.alarms.stopped.store(true, Ordering::Release);
        let is_needed = !state.set.is_empty();
        drop(state);
        // Whoever is polled next, in a runtime that is alive, starts it anew.
        if !is_needed {
            return;
        }
        let wake_all = move || {
            for entry in store.lines.all() {
                entry.wake();
            }
        };
        if self.is_started.load(Ordering::Acquire) {
            wake_all();
        } else {
            // Whoever starts it may be here, with a line in its hands. If there
            // is no thread to be had, the next look does it.
            let _ = std::thread::Builder::new().spawn(wake_all);
        }
    }
}

async fn keep_time(running: Running, earlier: Arc<Notify>) {
    loop {
        let next = {
            let Some(store) = running.store.upgrade() else {
                return;
            };
            let due = store.alarms.take_due(Instant::now());
            store.on_alarms(due);
            store.alarms.fall_asleep()
        };
        match next {
            Some(next) => tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = earlier.notified() => {}
            },
            None => earlier.notified().await,
        }
    }
}
