//! Between what Python gives and what Rust takes.

use std::time::{Duration, Instant};

use lock_store::{LockError, Timestamp};
use pyo3::PyTypeInfo;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::plain;

/// A time that the store checks further.
pub(crate) fn seconds(name: &str, seconds: f64) -> PyResult<Duration> {
    if seconds == f64::INFINITY {
        return Ok(Duration::MAX);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        let text = format!("{name} is {seconds}; it must be a number of seconds from 0 on");
        crate::error::Failure::from(LockError::config(text)).into()
    })
}

/// How long to wait for a result.
pub(crate) fn patience(seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("timeout is not a number"));
    }
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

/// A conversation id. What Python calls a string may be no valid Unicode.
pub(crate) fn id(id: &Bound<'_, PyAny>) -> PyResult<String> {
    let id = id.cast::<pyo3::types::PyString>()?;
    match id.to_cow() {
        Ok(text) => Ok(text.into_owned()),
        Err(error) => {
            let text = format!("invalid conversation id: not valid Unicode: {error}");
            Err(plain(id.py(), "InvalidConversationId", &text))
        }
    }
}

/// Seconds since the epoch; without any the machine's time.
pub(crate) fn timestamp(seconds: Option<f64>) -> PyResult<Timestamp> {
    let Some(seconds) = seconds else {
        return Ok(Timestamp::now());
    };
    Timestamp::from_secs_f64(seconds).ok_or_else(|| {
        PyValueError::new_err(format!("now is {seconds}, not seconds since the epoch"))
    })
}

/// An instant on the clock of `time.monotonic()`.
pub(crate) fn monotonic(py: Python<'_>, instant: Instant) -> PyResult<f64> {
    static CLOCK: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
    let now = Instant::now();
    let says: f64 = CLOCK.import(py, "time", "monotonic")?.call0()?.extract()?;
    let ahead = instant.saturating_duration_since(now).as_secs_f64();
    let behind = now.saturating_duration_since(instant).as_secs_f64();
    Ok(says + ahead - behind)
}

/// Warns from where no error can be raised, also while one is on its way.
pub(crate) fn warn<W: PyTypeInfo>(py: Python<'_>, text: &str) {
    let _inside = crate::process::current().inside();
    let on_its_way = PyErr::take(py);
    if let Ok(text) = std::ffi::CString::new(text)
        && let Err(error) = PyErr::warn(py, &py.get_type::<W>(), &text, 1)
    {
        error.write_unraisable(py, None);
    }
    if let Some(error) = on_its_way {
        error.restore(py);
    }
}
