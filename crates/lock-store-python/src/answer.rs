//! What a future says, on its way into Python.

use lock_store::{ConversationId, LockError};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use crate::error::Failure;
use crate::guard::{Held, LockGuard};
use crate::issuing::Issued;
use crate::lock::Entering;
use crate::place::{InLine, Place};
use crate::ticket::TicketLock;

pub(crate) type Outcome = Result<Answer, Failure>;

/// What became of a future that Python awaits.
pub(crate) enum Answer {
    Nothing,
    Truth(bool),
    Number(u64),
    /// The number of a ticket that nobody else knows of.
    Issued(Issued),
    Guard(Held),
    MaybeGuard(Option<Held>),
    Place(InLine),
    Lock(lock_store::TicketLock),
    MaybeLock(Option<lock_store::TicketLock>),
    Loss(Option<LockError>),
    /// The next of a list, or its end.
    Conversation(Option<ConversationId>),
}

/// What is done with a guard before it is handed over.
pub(crate) enum Then {
    Nothing,
    /// It is remembered by the request that was entered.
    Enter(Entering),
    /// The object itself is the answer.
    Give(Py<PyAny>),
}

impl Answer {
    pub(crate) fn into_py(self, py: Python<'_>, then: Then) -> PyResult<Py<PyAny>> {
        match (self, then) {
            (Self::Guard(held), Then::Enter(entering)) => {
                let guard = LockGuard::create(py, held)?;
                entering.entered(guard.clone_ref(py));
                Ok(guard.into_any())
            }
            (_, Then::Give(object)) => Ok(object),
            (Self::Truth(truth), _) => truth.into_py_any(py),
            (Self::Number(number), _) => number.into_py_any(py),
            (Self::Issued(issued), _) => issued.into_number().into_py_any(py),
            (Self::Guard(held) | Self::MaybeGuard(Some(held)), _) => {
                Ok(LockGuard::create(py, held)?.into_any())
            }
            (Self::Place(place), _) => Place::create(py, place),
            (Self::Lock(lock) | Self::MaybeLock(Some(lock)), _) => {
                TicketLock::from(lock).into_py_any(py)
            }
            (
                Self::Nothing | Self::MaybeGuard(None) | Self::MaybeLock(None) | Self::Loss(None),
                _,
            ) => Ok(py.None()),
            (Self::Loss(Some(error)), _) => Ok(Failure::from(error)
                .into_error(py)
                .into_value(py)
                .into_any()),
            (Self::Conversation(Some(id)), _) => id.as_str().into_py_any(py),
            // Ends a list; the caller says of which kind it is.
            (Self::Conversation(None), _) => {
                Err(pyo3::exceptions::PyStopAsyncIteration::new_err(()))
            }
        }
    }
}
