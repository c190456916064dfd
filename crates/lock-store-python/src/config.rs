//! From the options of Python to the configuration of the core.
//!
//! They go through the core's own reader, so that it knows every key and says
//! what is wrong with a value.

use std::fmt::Write;
use std::path::PathBuf;

use lock_store::{LockError, LockStoreConfig};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString, PyTuple};
use secrecy::SecretString;
use serde_json::Value;

use crate::error::Failure;

/// Texts that may be anything, so that they may hold a `${NAME}`. From a
/// program they are meant literally, and set behind the reader's back.
const LITERAL: [&str; 7] = [
    "url",
    "host",
    "username",
    "password",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_ca_certs",
];

/// The configuration that the options of `in_memory` or `redis` describe.
pub(crate) fn from_options(
    py: Python<'_>,
    store_type: &str,
    url: Option<&Bound<'_, PyAny>>,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<LockStoreConfig> {
    let mut text = String::from("lock_store:\n");
    let mut literals = Vec::new();
    let mut add = |key: &str, value: &Bound<'_, PyAny>| -> PyResult<()> {
        let mut value = json(key, value)?;
        if LITERAL.contains(&key)
            && let Value::String(literal) = &value
            && literal.contains("${")
        {
            literals.push((key.to_owned(), literal.clone()));
            value = Value::String("literal".into());
        }
        let (key, value) = (Value::String(key.to_owned()), value);
        writeln!(text, "  {key}: {value}").map_err(|error| PyTypeError::new_err(error.to_string()))
    };
    let store_type = PyString::new(py, store_type);
    add("type", &store_type)?;
    if let Some(url) = url {
        add("url", url)?;
    }
    for (key, value) in options.into_iter().flatten() {
        let key: String = key.extract()?;
        if key == "type" {
            return Err(PyTypeError::new_err(
                "type is not an option; it is what the constructor is called",
            ));
        }
        add(&key, &value)?;
    }
    let mut config = LockStoreConfig::from_yaml(&text).map_err(as_options)?;
    for (key, literal) in literals {
        let redis = &mut config.redis;
        match key.as_str() {
            "url" | "host" => redis.url = SecretString::from(literal),
            "username" => redis.username = Some(literal),
            "password" => redis.password = Some(SecretString::from(literal)),
            "ssl_certfile" => redis.ssl_certfile = Some(PathBuf::from(literal)),
            "ssl_keyfile" => redis.ssl_keyfile = Some(PathBuf::from(literal)),
            _ => redis.ssl_ca_certs = Some(PathBuf::from(literal)),
        }
    }
    Ok(config)
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

/// The same error without the place in a text that nobody sees.
fn as_options(error: LockError) -> Failure {
    let text = error.to_string();
    match text.split_once("lock_store.") {
        Some((place, behind)) if place.contains("error: endpoints") => {
            LockError::config(behind.replace("lock_store.", "")).into()
        }
        _ => error.into(),
    }
}
