//! From YAML text to the values of the `lock_store` block, each with its line.
//!
//! The only place that knows the YAML library. Its error texts are asked to
//! leave out the neighbouring lines, which may hold passwords.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::error::LockError;

/// A value, and the line on which it stands.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) value: Value,
    pub(super) line: u64,
}

/// The keys of the block `lock_store`, or `None` when there is no such block.
pub(super) fn lock_store_block(
    text: &str,
    file: &str,
) -> Result<Option<BTreeMap<String, Located>>, LockError> {
    #[derive(Deserialize)]
    struct Shape {
        lock_store: Option<Spanned<Value>>,
    }
    #[derive(Deserialize)]
    struct Keys {
        lock_store: BTreeMap<String, Spanned<Value>>,
    }

    // First whether it is a block at all: the library's own text for a wrong
    // shape would quote the value.
    let Some(shape) = parse::<Option<Shape>>(text, file)?.and_then(|file| file.lock_store) else {
        return Ok(None);
    };
    match shape.value {
        Value::Null => return Ok(None),
        Value::Object(_) => {}
        _ => {
            let line = shape.referenced.line();
            return Err(LockError::config(format!(
                "{file}, line {line}: lock_store must be a block of keys, such as `type: redis`"
            )));
        }
    }
    let keys: Keys = parse(text, file)?;
    let located = |(key, spanned): (String, Spanned<Value>)| {
        let line = spanned.referenced.line();
        let value = spanned.value;
        (key, Located { value, line })
    };
    Ok(Some(keys.lock_store.into_iter().map(located).collect()))
}

fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, LockError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = match error.location() {
            Some(location) => format!("{file}, line {}", location.line()),
            None => file.to_owned(),
        };
        LockError::config(format!("{place}: not YAML that can be read: {error}"))
    })
}
