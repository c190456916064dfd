//! What comes from the environment: `${NAME}` in values, a variable for each
//! key, and `TICKET_LOCK_LIFETIME`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde_json::Value;

use super::block::{Given, KEYS, likely_key};
use super::source::Source;
use crate::error::LockError;

const TICKET_LOCK_LIFETIME: &str = "TICKET_LOCK_LIFETIME";

/// What the variables of the keys begin with.
const PREFIX: &str = "LOCK_STORE_";

/// Looks up variables.
pub(super) struct Environment<'e> {
    lookup: Box<Lookup<'e>>,
    /// All variables that begin with [`PREFIX`].
    names: Vec<String>,
}

type Lookup<'e> = dyn Fn(&str) -> Option<OsString> + 'e;

impl<'e> Environment<'e> {
    /// The environment of this process.
    pub(super) fn process() -> Self {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self::looked_up(names, |name| std::env::var_os(name))
    }

    pub(super) fn looked_up(
        names: impl IntoIterator<Item = String>,
        lookup: impl Fn(&str) -> Option<OsString> + 'e,
    ) -> Self {
        let names = names.into_iter().filter(|name| name.starts_with(PREFIX));
        Self {
            lookup: Box::new(lookup),
            names: names.collect(),
        }
    }

    /// What is text.
    fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name)?.into_string().ok()
    }

    /// Replaces the variables in a value, as Rasa does: only if there is a
    /// `${NAME}` in it, and then `$NAME` too. Says which variable is not set.
    pub(super) fn expand(&self, value: &str) -> Result<String, String> {
        if !value.contains("${") {
            return Ok(value.to_owned());
        }
        let mut expanded = String::with_capacity(value.len());
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            rest = self.expand_one(after, &mut expanded)?;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    /// Expands what stands behind a `$`, and returns what comes after it.
    fn expand_one<'v>(&self, after: &'v str, expanded: &mut String) -> Result<&'v str, String> {
        if let Some((name, rest)) = after.strip_prefix('{').and_then(|v| v.split_once('}')) {
            let value = self.text(name).ok_or_else(|| name.to_owned())?;
            expanded.push_str(&value);
            return Ok(rest);
        }
        let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
        let length = after.find(|c| !is_name(c)).unwrap_or(after.len());
        let (name, rest) = after.split_at(length);
        match self.text(name).filter(|_| !name.is_empty()) {
            Some(value) => expanded.push_str(&value),
            // As in Python's `expandvars`, a `$` may just be a `$`.
            None => {
                expanded.push('$');
                expanded.push_str(name);
            }
        }
        Ok(rest)
    }

    /// The keys that variables give a value. An empty variable gives none, as
    /// containers cannot leave one out.
    pub(super) fn values(&self) -> Result<BTreeMap<String, Given>, LockError> {
        let mut values = BTreeMap::new();
        for key in KEYS {
            let name = variable(key);
            if let Some(text) = self.value(&name)? {
                if key == "port" && is_service_link(&text) {
                    continue;
                }
                values.insert(key.to_owned(), given(name, as_value(key, text)));
            }
        }
        self.refuse_near_misses()?;
        if !values.contains_key("lock_lifetime")
            && let Some(text) = self.value(TICKET_LOCK_LIFETIME)?
            // As in Rasa, no lifetime at all.
            && text.trim() != "0"
        {
            let lifetime = given(TICKET_LOCK_LIFETIME.to_owned(), Value::String(text));
            values.insert("lock_lifetime".to_owned(), lifetime);
        }
        Ok(values)
    }

    /// A variable, unless it is blank.
    fn value(&self, name: &str) -> Result<Option<String>, LockError> {
        let Some(value) = (self.lookup)(name) else {
            return Ok(None);
        };
        match value.into_string() {
            Ok(text) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
            Err(_) => Err(LockError::config(format!(
                "the environment variable {name} is not UTF-8 text"
            ))),
        }
    }

    /// A setting that does not count because of a slip must not go unnoticed:
    /// with another prefix, for one, two processes lock nothing in common.
    fn refuse_near_misses(&self) -> Result<(), LockError> {
        for name in &self.names {
            let key = name[PREFIX.len()..].to_ascii_lowercase();
            let is_blank = |value: OsString| value.to_string_lossy().trim().is_empty();
            let is_ours = KEYS.iter().any(|key| variable(key) == *name);
            if is_ours || (self.lookup)(name).is_none_or(is_blank) {
                continue;
            }
            if let Some(known) = likely_key(&key) {
                // One letter of a short word makes another word.
                let is_near = known.len() > 5 || strsim::osa_distance(known, &key) <= 1;
                if is_near {
                    let known = variable(known);
                    return Err(LockError::config(format!(
                        "the environment variable {name} is not a setting; did you mean {known}?"
                    )));
                }
            }
        }
        Ok(())
    }
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

fn given(name: String, value: Value) -> Given {
    Given {
        value,
        name: name.clone(),
        source: Source::Variable(name),
    }
}

fn as_value(key: &str, text: String) -> Value {
    if key != "endpoints" {
        return Value::String(text);
    }
    let endpoints = text.split(',').map(|item| Value::from(item.trim()));
    Value::Array(endpoints.collect())
}

/// Kubernetes gives each container `LOCK_STORE_PORT=tcp://…` if there is a
/// service called `lock-store`.
fn is_service_link(text: &str) -> bool {
    ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
}
