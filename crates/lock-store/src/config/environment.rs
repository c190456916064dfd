//! What comes from the environment: `${NAME}` in values, and
//! `TICKET_LOCK_LIFETIME`.

use std::time::Duration;

use crate::error::LockError;
use crate::store::LIFETIMES;

const TICKET_LOCK_LIFETIME: &str = "TICKET_LOCK_LIFETIME";

/// Looks up variables.
pub(super) struct Environment<'e>(Box<Lookup<'e>>);

type Lookup<'e> = dyn Fn(&str) -> Option<String> + 'e;

impl<'e> Environment<'e> {
    /// The environment of this process.
    pub(super) fn process() -> Self {
        Self::looked_up(|name| std::env::var(name).ok())
    }

    pub(super) fn looked_up(lookup: impl Fn(&str) -> Option<String> + 'e) -> Self {
        Self(Box::new(lookup))
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
            let value = (self.0)(name).ok_or_else(|| name.to_owned())?;
            expanded.push_str(&value);
            return Ok(rest);
        }
        let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
        let length = after.find(|c| !is_name(c)).unwrap_or(after.len());
        let (name, rest) = after.split_at(length);
        match (self.0)(name).filter(|_| !name.is_empty()) {
            Some(value) => expanded.push_str(&value),
            // As in Python's `expandvars`, a `$` may just be a `$`.
            None => {
                expanded.push('$');
                expanded.push_str(name);
            }
        }
        Ok(rest)
    }

    /// The lifetime that overrides the configured one. Empty and 0 mean none,
    /// as in Rasa.
    pub(super) fn ticket_lock_lifetime(&self) -> Result<Option<Duration>, LockError> {
        let Some(text) = (self.0)(TICKET_LOCK_LIFETIME) else {
            return Ok(None);
        };
        let text = text.trim();
        if text.is_empty() || text == "0" {
            return Ok(None);
        }
        let lifetime = text.parse().ok();
        let lifetime = lifetime.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match lifetime.filter(|lifetime| LIFETIMES.contains(lifetime)) {
            Some(lifetime) => Ok(Some(lifetime)),
            None => Err(LockError::config(format!(
                "the environment variable {TICKET_LOCK_LIFETIME} is {text:?}; \
                 it must be a number of seconds from 0.001 to 2592000 (30 days)"
            ))),
        }
    }
}
