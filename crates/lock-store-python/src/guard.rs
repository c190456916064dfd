//! A held lock.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use pyo3::exceptions::{PyGeneratorExit, PyResourceWarning};
use pyo3::prelude::*;
use pyo3::types::PyAny;

use crate::answer::{Answer, Outcome, Then};
use crate::bridge::running_loop;
use crate::error::Failure;
use crate::lent::Lent;
use crate::locked;
use crate::open::Opened;
use crate::operation::{Operation, Work};
use crate::process::{Ours, Process};
use crate::taking::Taking;

/// A guard, and what keeps its store open. Dropped in this order.
pub(crate) struct Held {
    pub(crate) guard: lock_store::LockGuard,
    pub(crate) store: Arc<Opened>,
}

/// A held lock: the proof that it is this message's turn.
///
/// The lease runs until `deadline`; after that the lock is somebody else's,
/// whatever the holder is doing. Give the `fencing_token` to whatever the lock
/// protects, so that it can refuse a holder that is late.
///
/// It is a context manager, for `with` and `async with`, that releases it. One
/// that is collected without having been released releases its lock in the
/// background, with a `ResourceWarning`.
#[pyclass(frozen, module = "lock_store")]
pub(crate) struct LockGuard {
    conversation_id: String,
    fencing_token: u64,
    ticket_number: u64,
    number: u64,
    held: Ours<Arc<Lent<Held>>>,
    /// What was known last: counts when it is released.
    last: Mutex<Last>,
}

#[derive(Clone, Copy)]
struct Last {
    deadline: Instant,
    is_lost: bool,
}

impl Last {
    fn of(held: &Held) -> Self {
        Self {
            deadline: held.guard.deadline(),
            is_lost: held.guard.is_lost(),
        }
    }
}

/// What the body of a `with` came to, for the release behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Done,
    Raised,
    /// A generator or a coroutine was closed in there: by its maker, or as it
    /// is collected.
    Closed,
}

impl LockGuard {
    pub(crate) fn create(py: Python<'_>, held: Held) -> PyResult<Py<Self>> {
        let process = crate::process::current();
        let number = process.next_number();
        let (guard, last) = (&held.guard, Last::of(&held));
        let (conversation_id, fencing_token, ticket_number) = (
            guard.conversation_id().as_str().to_owned(),
            guard.fencing_token().get(),
            guard.ticket_number(),
        );
        let held = Arc::new(Lent::new(held));
        let weak = Arc::downgrade(&held);
        locked(&process.held).insert(number, weak);
        let guard = Self {
            conversation_id,
            fencing_token,
            ticket_number,
            number,
            held: Ours::new(process, held),
            last: Mutex::new(last),
        };
        Py::new(py, guard)
    }

    fn held(&self) -> Result<(&'static Process, &Arc<Lent<Held>>), Failure> {
        let process = self.held.process();
        let held = self.held.get().ok_or(Failure::Forked("guard"))?;
        Ok((process, held))
    }

    fn last(&self) -> Last {
        let known = self.held.get().and_then(|held| held.look(Last::of));
        let mut last = locked(&self.last);
        if let Some(known) = known {
            *last = known;
        }
        *last
    }

    /// Releases it, if that was not begun before. From here on it is on its
    /// way, even if nobody awaits it.
    fn releasing(&self) -> Result<(&'static Process, Option<Work>), Failure> {
        let (process, held) = self.held()?;
        self.last();
        let taking = Taking::begin(process, self.number, held);
        let work = taking.map(|taking| -> Work { Box::pin(release(process, taking)) });
        Ok((process, work))
    }

    /// The release behind the body of a `with`. An error of the body is not
    /// hidden; and where the storage does not answer the work was protected,
    /// and the rest is done in the background.
    pub(crate) fn leaving(&self, body: Body) -> Operation {
        let (process, work) = match self.releasing() {
            Ok(releasing) => releasing,
            Err(failure) => return Operation::refused("release", failure),
        };
        let work: Work = match work {
            None => Box::pin(async { Ok(Answer::Nothing) }),
            Some(work) => Box::pin(async move {
                match work.await {
                    Err(failure) if body == Body::Done && !failure.is_unavailable() => Err(failure),
                    _ => Ok(Answer::Nothing),
                }
            }),
        };
        Operation::new("release", process, work)
    }

    /// As [`leaving`](Self::leaving), in a task, whose loop may be closed by
    /// now: then nobody can wait.
    pub(crate) fn leaving_task(&self, py: Python<'_>, body: Body) -> PyResult<Operation> {
        if body == Body::Closed && running_loop(py)?.is_none() {
            self.give_up();
            return Ok(Operation::nothing("release"));
        }
        Ok(self.leaving(body))
    }

    /// Releases it in the background, if that was not begun before.
    pub(crate) fn give_up(&self) {
        drop(self.releasing());
    }

    /// As [`leaving`](Self::leaving), in a thread.
    pub(crate) fn leave(&self, py: Python<'_>, body: Body) -> PyResult<()> {
        self.leaving(body).block(py, None).map(drop)
    }
}

async fn release(process: &'static Process, taking: Taking<Held>) -> Outcome {
    // Dropped last: an exit waits until the guard has seen to its ticket.
    let parting = process.parting.token();
    let Some(Held { guard, store }) = taking.take().await else {
        return Ok(Answer::Nothing);
    };
    let released = guard.release().await;
    drop((store, parting));
    Ok(released.map(|()| Answer::Nothing)?)
}

#[pymethods]
impl LockGuard {
    /// The conversation that is locked.
    #[getter]
    fn conversation_id(&self) -> &str {
        &self.conversation_id
    }

    /// A number that is higher than that of every earlier holder.
    #[getter]
    fn fencing_token(&self) -> u64 {
        self.fencing_token
    }

    /// The number on the ticket: how many came before it since the queue was
    /// last empty.
    #[getter]
    fn ticket_number(&self) -> u64 {
        self.ticket_number
    }

    /// Until when the lock is surely ours, unless it is extended: seconds on
    /// the clock of `time.monotonic()`. Of a guard that was released, what it
    /// was then.
    #[getter]
    fn deadline(&self, py: Python<'_>) -> PyResult<f64> {
        crate::convert::monotonic(py, self.last().deadline)
    }

    /// Whether the lock was lost: its lease ran out, or the storage said that
    /// the ticket is gone. A guard that was released in time is not lost.
    #[getter]
    pub(crate) fn is_lost(&self) -> bool {
        self.last().is_lost
    }

    /// Whether it was released, or is about to be.
    #[getter]
    pub(crate) fn is_released(&self) -> bool {
        self.held.get().is_none_or(|held| held.is_wanted())
    }

    /// Lets the lease run for `lifetime` seconds from now on, whatever was
    /// left of it. With `keep_alive`, later extensions are as long.
    ///
    /// Raises `LockLost` when the lock is no longer ours.
    fn extend(&self, lifetime: f64) -> PyResult<Operation> {
        let lifetime = crate::convert::seconds("lifetime", lifetime)?;
        let (process, held) = self.held()?;
        let held = held.clone();
        let work = async move {
            match held
                .borrow(async |held| held.guard.extend(lifetime).await)
                .await
            {
                Some(extended) => Ok(extended.map(|()| Answer::Nothing)?),
                None => Err(Failure::UsedUp("the lock was released")),
            }
        };
        Ok(Operation::new("extend", process, Box::pin(work)))
    }

    /// Waits until the lock is lost, and returns the `LockLost` that says why;
    /// `None` as soon as it is released instead.
    fn lost(&self) -> PyResult<Operation> {
        let (process, held) = self.held()?;
        let held = held.clone();
        let work = async move {
            let lost = held.borrow(async |held| held.guard.lost().await).await;
            Ok(Answer::Loss(lost))
        };
        Ok(Operation::new("lost", process, Box::pin(work)).that_waits())
    }

    /// Gives the lock to the next in line. Harmless when it is released
    /// already. What is not awaited is done in the background.
    ///
    /// Raises `LockLost` when the lock was no longer ours, so that what was
    /// done last may not have been protected; or what the storage says, and
    /// then it is tried again in the background.
    fn release(&self) -> PyResult<Operation> {
        let (process, work) = self.releasing()?;
        let work = work.unwrap_or_else(|| Box::pin(async { Ok(Answer::Nothing) }));
        Ok(Operation::new("release", process, work))
    }

    fn __aenter__(slf: Bound<'_, Self>) -> Operation {
        let process = slf.get().held.process();
        let then = Then::Give(slf.into_any().unbind());
        let work: Work = Box::pin(async { Ok(Answer::Nothing) });
        Operation::begin("enter", process, Ok(work), then)
    }

    fn __aexit__(
        &self,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<Operation> {
        let _ = (error, traceback);
        self.leaving_task(kind.py(), Body::of(kind))
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (error, traceback);
        self.leave(kind.py(), Body::of(kind))
    }

    fn __repr__(&self) -> String {
        let state = if self.is_released() {
            "released"
        } else if self.is_lost() {
            "lost"
        } else {
            "held"
        };
        format!(
            "<lock_store.LockGuard of {:?}, ticket {}, {state}>",
            self.conversation_id, self.ticket_number
        )
    }
}

impl Body {
    pub(crate) fn of(kind: &Bound<'_, PyAny>) -> Self {
        if kind.is_none() {
            Self::Done
        } else if kind.is(kind.py().get_type::<PyGeneratorExit>()) {
            Self::Closed
        } else {
            Self::Raised
        }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let Some(held) = self.held.get() else {
            return;
        };
        let process = self.held.process();
        let Some(taking) = Taking::begin(process, self.number, held) else {
            return;
        };
        let is_lost = self.last().is_lost;
        drop(taking);
        // Of a lock that was lost nothing is left to be released.
        if process.exiting.load(Ordering::Acquire) || is_lost {
            return;
        }
        let text = format!(
            "the lock of conversation {:?} was never released; it is released in the background",
            self.conversation_id
        );
        Python::attach(|py| crate::convert::warn::<PyResourceWarning>(py, &text));
    }
}
