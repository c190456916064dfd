//! From the options of Python to the configuration of the core.
//!
//! They go through the core's own reader, so that it knows every key and says
//! what is wrong with a value.

use lock_store::{ConfigReader, LockStoreConfig};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString, PyTuple};
use serde_json::Value;

use crate::error::Failure;

/// What `type` is in Rasa's `endpoints.yml`.
const RASA_CLASS: &str = "lock_store.rasa.RasaLockStore";

/// The configuration that the options of `in_memory` or `redis` describe; the
/// environment gives what they leave out.
pub(crate) fn from_options(
    store_type: &str,
    url: Option<&Bound<'_, PyAny>>,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<LockStoreConfig> {
    // In code, so that it falls back to nothing.
    let mut reader = ConfigReader::new()
        .defaults(LockStoreConfig::default())
        .option("type", store_type);
    if let Some(url) = url {
        reader = reader.option("url", json("url", url)?);
    }
    for (key, value) in options.into_iter().flatten() {
        let key: String = key.extract()?;
        if key == "type" {
            return Err(PyTypeError::new_err(
                "type is not an option; it is what the constructor is called",
            ));
        }
        reader = reader.option(&key, json(&key, &value)?);
    }
    Ok(reader.read().map_err(Failure::from)?.config)
}

/// The configuration of Rasa's class: the block of `endpoints.yml`, which Rasa
/// has read, under the environment, and this under keyword options.
pub(crate) fn from_rasa(
    block: &Bound<'_, PyDict>,
    options: &Bound<'_, PyDict>,
) -> PyResult<LockStoreConfig> {
    let mut reader = ConfigReader::new().block("type", RASA_CLASS);
    for (key, value) in block {
        let key: String = key.extract()?;
        reader = reader.block(&key, json(&key, &value)?);
    }
    for (key, value) in options {
        let key: String = key.extract()?;
        if key == "store" {
            reader = reader.option("type", RASA_CLASS);
        }
        reader = reader.option(&key, json(&key, &value)?);
    }
    Ok(reader.read().map_err(Failure::from)?.config)
}

fn json(key: &str, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(truth) = value.cast::<PyBool>() {
        return Ok(Value::Bool(truth.is_true()));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Value::String(text.to_cow()?.into_owned()));
    }
    if let Ok(number) = value.extract::<i64>() {
        return Ok(Value::from(number));
    }
    if let Ok(number) = value.extract::<f64>() {
        // What JSON cannot say is refused by the reader, as text.
        return Ok(serde_json::Number::from_f64(number)
            .map_or_else(|| Value::String(number.to_string()), Value::Number));
    }
    let items: Vec<Bound<'_, PyAny>> =
        if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            value.try_iter()?.collect::<PyResult<_>>()?
        } else if let Ok(path) = value.py().import("os")?.call_method1("fspath", (value,)) {
            return json(key, &path);
        } else {
            let found = value.get_type().name()?.to_string();
            return Err(PyTypeError::new_err(format!(
                "{key} is of type {found}; it must be text, a number, True or False, or a list"
            )));
        };
    let items: PyResult<Vec<Value>> = items.iter().map(|item| json(key, item)).collect();
    items.map(Value::Array)
}
