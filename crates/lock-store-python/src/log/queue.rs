//! The queue of events, and the thread that empties it.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Event;
use crate::locked;

/// So many events wait at most. A program that takes them slower than they
/// come loses some, and is told how many.
const MOST: usize = 10_000;

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
    waiting: Vec<Event>,
    lost: u64,
    thread: Thread,
    is_stopping: bool,
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
        state.waiting.push(event);
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
            if is_last {
                break;
            }
        }
        drop(ended);
    }

    /// Waits for events. The last ones come when it is stopping.
    fn next(&self) -> (Vec<Event>, u64, bool) {
        let mut state = locked(&self.state);
        while state.waiting.is_empty() && !state.is_stopping {
            state = match self.changed.wait(state) {
                Ok(state) => state,
                Err(poisoned) => poisoned.into_inner(),
            };
        }
        let events = std::mem::take(&mut state.waiting);
        let lost = std::mem::take(&mut state.lost);
        (events, lost, state.is_stopping)
    }
}

/// Says so when the thread ends.
struct Ended<'q>(&'q Queue);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        locked(&self.0.state).thread = Thread::Ended;
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
