//! Waiting in a thread.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::answer::Outcome;
use crate::bridge::running_loop;
use crate::process::current;
use crate::slot::Driven;

/// How soon the main thread sees a Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(100);

/// For the other threads, which have no signals to see.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Waiting for others would stop the loop in which they may be.
pub(crate) fn refuse_running_loop(py: Python<'_>, name: &str) -> PyResult<()> {
    match running_loop(py)? {
        None => Ok(()),
        Some(_) => Err(PyRuntimeError::new_err(format!(
            "`{name}` in its form for threads would block the event loop that runs in this \
             thread, and with it whoever holds the lock; use `await` or `async with`"
        ))),
    }
}

/// Waits without the interpreter lock. `None` when the time is over.
pub(crate) fn wait(
    py: Python<'_>,
    driven: &Driven,
    timeout: Option<Duration>,
) -> PyResult<Option<Outcome>> {
    let began = Instant::now();
    let until = timeout.and_then(|timeout| began.checked_add(timeout));
    let step = if is_main_thread(py)? { SIGNALS } else { LONG };
    loop {
        // Before the interpreter lock is given away: later it may not be had.
        if current().exiting.load(Ordering::Acquire) {
            return Err(crate::error::Failure::Exiting.into());
        }
        let wake_up = Instant::now() + step;
        let wake_up = until.map_or(wake_up, |until| until.min(wake_up));
        py.detach(|| driven.slot.wait(wake_up));
        if let Some(outcome) = driven.take() {
            return Ok(Some(outcome));
        }
        // An error, such as KeyboardInterrupt, drops what is under way.
        py.check_signals()?;
        if until.is_some_and(|until| until <= Instant::now()) {
            return Ok(None);
        }
    }
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static MAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let this = GET.import(py, "threading", "get_ident")?.call0()?;
    let main = MAIN.import(py, "threading", "main_thread")?.call0()?;
    this.eq(main.getattr("ident")?)
}
