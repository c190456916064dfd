//! A request for a lock: what `with` and `async with` enter.

use std::sync::Arc;
use std::time::Duration;

use lock_store::{LockStore as Store, Mode, Request};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::answer::{Answer, Outcome, Then};
use crate::entered::{Entered, Visitor, Who};
use crate::error::Failure;
use crate::guard::{Body, Held, LockGuard};
use crate::open::Opened;
use crate::operation::{Operation, Work};
use crate::store::LockStore;

/// What the caller of `lock`, `try_lock` or `take_ticket` chose.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) lifetime: Option<Duration>,
    pub(crate) wait_timeout: Option<Duration>,
    pub(crate) keep_alive: Option<bool>,
}

impl Options {
    pub(crate) fn new(
        lifetime: Option<f64>,
        wait_timeout: Option<f64>,
        keep_alive: Option<bool>,
    ) -> PyResult<Self> {
        let time = |name, time: Option<f64>| {
            time.map(|time| crate::convert::seconds(name, time))
                .transpose()
        };
        Ok(Self {
            lifetime: time("lifetime", lifetime)?,
            wait_timeout: time("wait_timeout", wait_timeout)?,
            keep_alive,
        })
    }

    pub(crate) fn of<M: Mode>(self, mut request: Request<M>) -> Request<M> {
        if let Some(lifetime) = self.lifetime {
            request = request.lifetime(lifetime);
        }
        if let Some(wait_timeout) = self.wait_timeout {
            request = request.wait_timeout(wait_timeout);
        }
        if let Some(keep_alive) = self.keep_alive {
            request = request.keep_alive(keep_alive);
        }
        request
    }
}

/// A request for a lock, from `LockStore.lock`.
///
///     async with store.lock("conversation-42") as guard: ...
///     with store.lock("conversation-42") as guard: ...      # in threads
///     guard = await store.lock("conversation-42")
///     guard = store.lock("conversation-42").acquire()       # in threads
///
/// Each of these takes a ticket and waits for its turn, so a request may be
/// kept and used by many tasks and threads, one after the other or at once. It
/// is not reentrant.
#[pyclass(frozen, module = "lock_store")]
pub(crate) struct Lock {
    store: Py<LockStore>,
    conversation_id: String,
    options: Options,
    entered: Entered,
}

/// Somebody who enters it, and is not in yet.
pub(crate) struct Entering {
    lock: Py<Lock>,
    visitor: Visitor,
}

impl Entering {
    pub(crate) fn entered(self, guard: Py<LockGuard>) {
        self.lock.get().entered.enter(self.visitor, guard);
    }
}

impl Lock {
    pub(crate) fn new(store: Py<LockStore>, conversation_id: String, options: Options) -> Self {
        Self {
            store,
            conversation_id,
            options,
            entered: Entered::new(),
        }
    }

    fn operation(&self, then: Then) -> Operation {
        let store = match self.store.get().opened() {
            Ok(store) => store,
            Err(failure) => return Operation::refused("lock", failure),
        };
        let work = acquire(store, self.conversation_id.clone(), self.options);
        Operation::begin("lock", crate::process::current(), Ok(work), then).that_waits()
    }

    fn enter(slf: &Bound<'_, Self>, visitor: Visitor) -> PyResult<Operation> {
        let lock = slf.get();
        if lock.entered.has(visitor.who) {
            return Err(PyRuntimeError::new_err(format!(
                "the lock of conversation {:?} was entered here already, and is not reentrant",
                lock.conversation_id
            )));
        }
        let lock_itself = slf.clone().unbind();
        Ok(lock.operation(Then::Enter(Entering {
            lock: lock_itself,
            visitor,
        })))
    }

    /// `None` if who is closed has nothing to give back any more.
    fn leave(&self, who: Who, body: Body) -> PyResult<Option<Py<LockGuard>>> {
        if body == Body::Closed || who == Who::NoTask {
            return Ok(self.entered.close(who));
        }
        self.entered.leave(who).map(Some).ok_or_else(|| {
            PyRuntimeError::new_err(format!(
                "the lock of conversation {:?} was not entered here",
                self.conversation_id
            ))
        })
    }
}

fn acquire(store: Arc<Opened>, id: String, options: Options) -> Work {
    Box::pin(async move {
        let opened = match store.get() {
            Some(opened) => opened,
            None => store.open().await?,
        };
        let guard = options.of(opened.lock(id)).await?;
        Ok(Answer::Guard(Held {
            guard,
            store: store.clone(),
        }))
    })
}

#[pymethods]
impl Lock {
    /// Waits for its turn in this thread, with the interpreter lock released:
    /// the form for threads of `await`.
    fn acquire(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let acquired = self.operation(Then::Nothing).block(py, None)?;
        acquired.ok_or_else(|| Failure::Exiting.into())
    }

    fn __await__(&self) -> Operation {
        self.operation(Then::Nothing)
    }

    fn __aenter__(slf: &Bound<'_, Self>) -> PyResult<Operation> {
        Self::enter(slf, slf.get().entered.visitor(slf.py())?)
    }

    fn __aexit__(
        &self,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<Operation> {
        let _ = (error, traceback);
        let (py, body) = (kind.py(), Body::of(kind));
        match self.leave(Who::task_if_any(py)?, body)? {
            Some(guard) => guard.get().leaving_task(py, body),
            None => Ok(Operation::nothing("release")),
        }
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let entered = Self::enter(slf, Visitor::thread())?.block(slf.py(), None)?;
        entered.ok_or_else(|| Failure::Exiting.into())
    }

    fn __exit__(
        &self,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (error, traceback);
        let body = Body::of(kind);
        match self.leave(Who::thread(), body)? {
            Some(guard) => guard.get().leave(kind.py(), body),
            None => Ok(()),
        }
    }

    /// The conversation to be locked.
    #[getter]
    fn conversation_id(&self) -> &str {
        &self.conversation_id
    }

    fn __repr__(&self) -> String {
        format!("<lock_store.Lock of {:?}>", self.conversation_id)
    }
}

/// A guard, if nobody else is there.
pub(crate) async fn try_acquire(store: Arc<Opened>, id: String, options: Options) -> Outcome {
    let opened: &Store = store.open().await?;
    let guard = options.of(opened.try_lock(id)).await?;
    Ok(Answer::MaybeGuard(guard.map(|guard| Held {
        guard,
        store: store.clone(),
    })))
}
