//! Failures, and the Python errors that they become.

use lock_store::{LockError, LockErrorKind};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

/// Why something was not done.
pub(crate) enum Failure {
    Lock(LockError),
    /// It belongs to the process that was forked.
    Forked(&'static str),
    /// The interpreter exits.
    Exiting,
    /// The store was closed before it was opened.
    ClosedUnopened,
    /// A place that was left or waited for, a guard that was released.
    UsedUp(&'static str),
    NoRuntime(String),
    Panicked,
    Python(PyErr),
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl Failure {
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Lock(error) if error.is_unavailable())
    }

    pub(crate) fn into_error(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Lock(error) => lock_error(py, &error),
            Self::Forked(what) => plain(
                py,
                "LockForked",
                &format!(
                    "this {what} belongs to the process that was forked; \
                     make one in this process"
                ),
            ),
            Self::Exiting => plain(
                py,
                "LockStoreClosed",
                "the lock store is closed, as the interpreter is exiting",
            ),
            Self::ClosedUnopened => plain(py, "LockStoreClosed", "the lock store is closed"),
            Self::UsedUp(what) => PyRuntimeError::new_err(what),
            Self::NoRuntime(error) => plain(
                py,
                "LockStoreUnavailable",
                &format!("the lock store is unavailable: it cannot start its thread: {error}"),
            ),
            Self::Panicked => PyRuntimeError::new_err(
                "lock_store panicked; this is a mistake in it, please report it",
            ),
            Self::Python(error) => error,
        }
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| failure.into_error(py))
    }
}

/// An error in the class of its kind, with what it knows.
fn lock_error(py: Python<'_>, error: &LockError) -> PyErr {
    let fields = || {
        let fields = PyDict::new(py);
        if let Some(id) = error.conversation_id() {
            fields.set_item("conversation_id", id.as_str())?;
        }
        if let Some(waited) = error.waited() {
            fields.set_item("waited", waited.as_secs_f64())?;
        }
        fields.set_item("ahead", error.ahead())?;
        Ok(fields)
    };
    let made = fields().and_then(|fields: Bound<'_, PyDict>| {
        class(py, class_of(error.kind()))?.call((error.to_string(),), Some(&fields))
    });
    made.map_or_else(|trouble| trouble, PyErr::from_value)
}

/// The class for each kind. Told apart from a kind that is new here by a test.
fn class_of(kind: LockErrorKind) -> &'static str {
    match kind {
        LockErrorKind::TimedOut => "LockTimeout",
        LockErrorKind::Lost => "LockLost",
        LockErrorKind::Gone => "LockGone",
        LockErrorKind::Unavailable => "LockStoreUnavailable",
        LockErrorKind::InvalidConversationId => "InvalidConversationId",
        LockErrorKind::Config => "LockConfigError",
        LockErrorKind::Corrupt => "LockCorrupt",
        LockErrorKind::Closed => "LockStoreClosed",
        LockErrorKind::NotReplicated => "LockNotReplicated",
        _ => "LockError",
    }
}

/// An error that only has a text.
pub(crate) fn plain(py: Python<'_>, name: &str, text: &str) -> PyErr {
    let made = class(py, name).and_then(|class| class.call1((text,)));
    made.map_or_else(|trouble| trouble, PyErr::from_value)
}

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let errors =
        ERRORS.get_or_try_init(py, || py.import("lock_store._errors").map(Bound::unbind))?;
    Ok(errors.bind(py).getattr(name)?.cast_into::<PyType>()?)
}
