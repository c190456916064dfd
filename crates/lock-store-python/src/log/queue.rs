//! The queue of events, and the thread that empties it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant, UNIX_EPOCH};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Event;
use crate::locked;

/// So many events wait at most. A program that takes them slower than they
/// come loses some, and is told how many.
const MOST: usize = 10_000;

/// So many are delivered at once: a fork waits for them.
const BATCH: usize = 32;

/// How long an exit waits for a program that takes its time with them.
const PATIENCE: Duration = Duration::from_secs(1);

/// The events that wait for `logging`.
#[derive(Default)]
pub(crate) struct Events(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Event>,
    lost: u64,
    thread: Thread,
    is_stopping: bool,
    /// Forks that are about to happen.
    forks: u32,
    /// Who is in the handlers of the program just now.
    delivering: Option<ThreadId>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Thread {
    #[default]
    NotBegun,
    Running,
    Ended,
}

impl Events {
    /// Never waits for Python.
    pub(crate) fn push(&self, event: Event) {
        let mut state = locked(&self.0.state);
        if state.waiting.len() >= MOST || state.thread == Thread::Ended {
            state.lost += 1;
            return;
        }
        state.waiting.push_back(event);
        if state.thread == Thread::NotBegun {
            let queue = self.0.clone();
            let began = std::thread::Builder::new()
                .name("lock-store-logging".into())
                .spawn(move || queue.deliver());
            state.thread = match began {
                Ok(_) => Thread::Running,
                Err(_) => Thread::Ended,
            };
        } else if state.waiting.len() == 1 {
            self.0.changed.notify_all();
        }
    }

    /// Waits until no handler is at work: what it had locked would be locked in
    /// the child for ever. Nothing is delivered until `after_fork`. Without the
    /// interpreter lock.
    pub(crate) fn before_fork(&self) {
        let mut state = locked(&self.0.state);
        state.forks += 1;
        let until = Instant::now() + PATIENCE;
        // A handler may fork itself.
        let this = std::thread::current().id();
        while state.delivering.is_some_and(|other| other != this) {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            state = match self.0.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    pub(crate) fn after_fork(&self) {
        locked(&self.0.state).forks -= 1;
        self.0.changed.notify_all();
    }

    /// Delivers what waits, and ends the thread. Without the interpreter lock.
    pub(crate) fn stop(&self) {
        let mut state = locked(&self.0.state);
        state.is_stopping = true;
        self.0.changed.notify_all();
        let until = Instant::now() + PATIENCE;
        while state.thread == Thread::Running {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            state = match self.0.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        state.thread = Thread::Ended;
    }
}

impl Queue {
    fn deliver(&self) {
        let ended = Ended(self);
        loop {
            let (events, lost, is_last) = self.next();
            if !events.is_empty() || lost > 0 {
                // `None` when the interpreter is gone.
                let delivered = Python::try_attach(|py| {
                    if let Err(error) = hand_over(py, events, lost) {
                        error.write_unraisable(py, None);
                    }
                });
                if delivered.is_none() {
                    break;
                }
            }
            locked(&self.state).delivering = None;
            self.changed.notify_all();
            if is_last {
                break;
            }
        }
        drop(ended);
    }

    /// Waits for events. The last ones come when it is stopping.
    fn next(&self) -> (Vec<Event>, u64, bool) {
        let mut state = locked(&self.state);
        while (state.waiting.is_empty() || state.forks > 0) && !state.is_stopping {
            state = match self.changed.wait(state) {
                Ok(state) => state,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
        let batch = state.waiting.len().min(BATCH);
        let events = state.waiting.drain(..batch).collect();
        let lost = std::mem::take(&mut state.lost);
        state.delivering = Some(std::thread::current().id());
        let is_last = state.is_stopping && state.waiting.is_empty();
        (events, lost, is_last)
    }
}

/// Says so when the thread ends.
struct Ended<'q>(&'q Queue);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.0.state);
        state.thread = Thread::Ended;
        state.delivering = None;
        drop(state);
        self.0.changed.notify_all();
    }
}

fn hand_over(py: Python<'_>, events: Vec<Event>, lost: u64) -> PyResult<()> {
    let deliver = py.import("lock_store._logging")?.getattr("deliver")?;
    for event in events {
        let fields = PyDict::new(py);
        for (name, value) in event.fields {
            fields.set_item(name, value)?;
        }
        let at = event.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let told = deliver.call1((
            event.level,
            event.target.replace("::", "."),
            event.message,
            fields,
            at.as_secs_f64(),
            event.thread,
        ));
        // A handler that fails does not keep the others from being told.
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }
    if lost > 0 {
        deliver.call1((
            30_u8,
            "lock_store",
            format!("{lost} events were lost, as logging is too slow"),
            PyDict::new(py),
            0.0,
            py.None(),
        ))?;
    }
    Ok(())
}
