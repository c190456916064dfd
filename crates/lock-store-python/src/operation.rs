//! What Python awaits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyStopIteration};
use pyo3::prelude::*;

use crate::answer::{Answer, Outcome, Then};
use crate::block;
use crate::bridge::{Bridge, Waiters};
use crate::error::Failure;
use crate::locked;
use crate::process::{Ours, Process};
use crate::slot::Driven;

/// A future with nothing of Python in it.
pub(crate) type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Something that takes time: `await` it in asyncio, or ask for its
/// `result()` in a thread.
///
/// It begins then and not before, like a coroutine. When the task that awaits
/// it is cancelled, what was asked for is taken back: a ticket leaves the
/// queue, and a lock that just came is released.
#[pyclass(frozen, module = "lock_store")]
pub(crate) struct Operation {
    /// What it does, for messages.
    name: &'static str,
    /// Whether it waits for other holders.
    waits: bool,
    state: Mutex<Ours<State>>,
}

struct State {
    progress: Progress,
    then: Then,
}

enum Progress {
    /// What is not begun may have been refused already.
    Fresh(Result<Work, Failure>),
    /// A task awaits it.
    Awaited(Awaited),
    /// A thread waits for it, or waited until its timeout.
    Blocked(Driven),
    Over,
}

/// What runs in the runtime for a task.
struct Awaited {
    driven: Driven,
    waiters: Arc<Waiters>,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.waiters.remove(self.driven.number);
    }
}

impl Operation {
    pub(crate) fn new(name: &'static str, process: &'static Process, work: Work) -> Self {
        Self::begin(name, process, Ok(work), Then::Nothing)
    }

    /// There is nothing to do.
    pub(crate) fn nothing(name: &'static str) -> Self {
        let work = Box::pin(async { Ok(Answer::Nothing) });
        Self::new(name, crate::process::current(), work)
    }

    pub(crate) fn refused(name: &'static str, failure: Failure) -> Self {
        let process = crate::process::current();
        Self::begin(name, process, Err(failure), Then::Nothing)
    }

    pub(crate) fn begin(
        name: &'static str,
        process: &'static Process,
        work: Result<Work, Failure>,
        then: Then,
    ) -> Self {
        let progress = Progress::Fresh(work);
        let state = State { progress, then };
        Self {
            name,
            waits: false,
            state: Mutex::new(Ours::new(process, state)),
        }
    }

    /// It waits for others, so it must not block an event loop.
    pub(crate) fn that_waits(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Takes the state out; whoever has it puts it back or is done with it.
    fn state(&self) -> PyResult<(&'static Process, State)> {
        let over = State {
            progress: Progress::Over,
            then: Then::Nothing,
        };
        let mut state = locked(&self.state);
        let process = state.process();
        match state.replace(over) {
            Some(state) => Ok((process, state)),
            None => Err(Failure::Forked("operation").into()),
        }
    }

    fn put_back(&self, state: State) {
        let over = locked(&self.state).replace(state);
        drop(over);
    }

    fn used_up(&self) -> PyErr {
        PyRuntimeError::new_err(format!(
            "this `{}` was awaited already, or is awaited elsewhere; make a new one",
            self.name
        ))
    }

    /// Polls what was never polled on this thread: an answer that is there at
    /// once needs nobody else.
    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        let (process, State { progress, then }) = self.state()?;
        let awaited = match progress {
            Progress::Fresh(work) => {
                let runtime = process.runtime(py)?;
                let _entered = runtime.enter();
                let mut work = work?;
                if let Poll::Ready(outcome) = poll(&mut work) {
                    return Ok(Step::Done(outcome, then));
                }
                let bridge = Bridge::of_running_loop(py, process)?;
                // Meanwhile others may have had the interpreter lock.
                if process.exiting.load(Ordering::Acquire) {
                    return Err(Failure::Exiting.into());
                }
                let bridge = bridge.get();
                let mailbox = Some(bridge.mailbox.clone());
                Awaited {
                    driven: Driven::begin(process, runtime, work, mailbox),
                    waiters: bridge.waiters.clone(),
                }
            }
            Progress::Awaited(awaited) => match awaited.driven.take() {
                Some(outcome) => return Ok(Step::Done(outcome, then)),
                None if process.exiting.load(Ordering::Acquire) => {
                    return Err(Failure::Exiting.into());
                }
                // Its task is resumed only when the slot is filled: this is
                // another one.
                None => {
                    let progress = Progress::Awaited(awaited);
                    self.put_back(State { progress, then });
                    return Err(self.used_up());
                }
            },
            Progress::Blocked(_) | Progress::Over => return Err(self.used_up()),
        };
        let future = awaited.waiters.add(py, awaited.driven.number)?;
        let progress = Progress::Awaited(awaited);
        self.put_back(State { progress, then });
        Ok(Step::Wait(future))
    }

    /// Drops what is under way.
    fn stop(&self) {
        if let Ok((process, state)) = self.state() {
            drop(Ours::new(process, state));
        }
    }

    /// Waits in this thread; `None` when the time is over.
    pub(crate) fn block(
        &self,
        py: Python<'_>,
        timeout: Option<std::time::Duration>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let _inside = crate::process::current().inside();
        if self.waits {
            // Refused, it is over: nobody is to await it any more.
            block::refuse_running_loop(py, self.name).inspect_err(|_| self.stop())?;
        }
        let (process, State { progress, then }) = self.state()?;
        let driven = match progress {
            Progress::Fresh(work) => {
                let runtime = process.runtime(py)?;
                let _entered = runtime.enter();
                let mut work = work?;
                if let Poll::Ready(outcome) = poll(&mut work) {
                    return finish(py, outcome, then).map(Some);
                }
                Driven::begin(process, runtime, work, None)
            }
            Progress::Blocked(driven) => driven,
            Progress::Awaited(_) => {
                self.put_back(State { progress, then });
                return Err(self.used_up());
            }
            Progress::Over => return Err(self.used_up()),
        };
        match block::wait(py, &driven, timeout)? {
            Some(outcome) => finish(py, outcome, then).map(Some),
            None => {
                let progress = Progress::Blocked(driven);
                self.put_back(State { progress, then });
                Ok(None)
            }
        }
    }
}

enum Step {
    Done(Outcome, Then),
    Wait(Py<PyAny>),
}

/// The runtime polls it again, so nobody needs to be woken for this time.
fn poll(work: &mut Work) -> Poll<Outcome> {
    work.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn finish(py: Python<'_>, outcome: Outcome, then: Then) -> PyResult<Py<PyAny>> {
    match outcome {
        Ok(answer) => answer.into_py(py, then),
        Err(failure) => Err(failure.into_error(py)),
    }
}

#[pymethods]
impl Operation {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let _inside = crate::process::current().inside();
        match self.step(py)? {
            Step::Wait(future) => Ok(Some(future)),
            Step::Done(Ok(Answer::Nothing), Then::Nothing) => Ok(None),
            Step::Done(outcome, then) => {
                let value = finish(py, outcome, then)?;
                Err(PyStopIteration::new_err((value,)))
            }
        }
    }

    /// For the event loop: what it resumes an awaitable with.
    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let _ = value;
        match self.__next__(py)? {
            Some(future) => Ok(Some(future)),
            None => Err(PyStopIteration::new_err(())),
        }
    }

    /// For the event loop: cancelled while it waits.
    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.stop();
        let error = PyErr::from_value(value.unwrap_or_else(|| kind.clone()));
        if let Some(traceback) = traceback
            && let Ok(traceback) = traceback.cast_into()
        {
            error.set_traceback(kind.py(), Some(traceback));
        }
        Err(error)
    }

    /// For the event loop: not wanted any more.
    fn close(&self) {
        self.stop();
    }

    /// Blocks this thread until it is done, with the interpreter lock
    /// released. After `timeout` seconds a `TimeoutError`; it goes on
    /// meanwhile, and may be asked for again.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let timeout = timeout.map(crate::convert::patience).transpose()?;
        match self.block(py, timeout) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(pyo3::exceptions::PyTimeoutError::new_err(format!(
                "`{}` is not done yet",
                self.name
            ))),
            Err(error) => Err(error),
        }
    }

    fn __repr__(&self) -> String {
        format!("<lock_store.Operation `{}`>", self.name)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let mut state = locked(&self.state);
        let is_fresh = state
            .get()
            .is_some_and(|state| matches!(state.progress, Progress::Fresh(Ok(_))));
        if is_fresh && let Some(state) = state.take() {
            let process = crate::process::current();
            let state = Ours::new(process, state);
            Python::attach(|py| {
                let text = format!(
                    "`{}` was never awaited, nor asked for its result",
                    self.name
                );
                crate::convert::warn::<PyRuntimeWarning>(py, &text);
            });
            drop(state);
        }
    }
}
