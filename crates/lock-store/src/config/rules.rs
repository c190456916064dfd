//! What a value must be. Each rule stands here once: [`RedisConfig::validate`]
//! applies it to values made in code, and the reader names it for text that is
//! not such a value.

use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::url::{UrlParts, is_host, parse_address};
use super::{LIFETIMES, LONGEST_WAIT};
use super::{Layout, LockStoreConfig, RedisConfig, Timing, WAITS};
use crate::error::LockError;

pub(super) const PORT: Whole = Whole::new("port", 1..=u16::MAX as u64);
pub(super) const DB: Whole = Whole::new("db", 0..=u32::MAX as u64);
pub(super) const CONNECTIONS: Whole = Whole::new("connections", 1..=64);
pub(super) const REPLICAS: Whole = Whole::new("replicas", 0..=100);

pub(super) const SOCKET_TIMEOUT: Seconds = Seconds::new("socket_timeout", WAITS);
pub(super) const LOCK_LIFETIME: Seconds = Seconds::new("lock_lifetime", LIFETIMES);
/// Of text only: in code a longer time means to wait without limit.
pub(super) const WAIT_TIMEOUT: Seconds =
    Seconds::new("wait_timeout", Duration::ZERO..=LONGEST_WAIT);
pub(super) const WAIT_TIME: Seconds = Seconds::new("wait_time", WAITS);
pub(super) const CLAIM_WINDOW: Seconds = Seconds::new("claim_window", WAITS);
pub(super) const MAX_HOLD: Seconds = Seconds::new("max_hold", LIFETIMES);

pub(super) const ENDPOINTS: &str =
    "must be a list of `host:port`, such as [\"redis-1:26379\", \"redis-2:26379\"]";

/// The longest `client_name`.
const LONGEST_NAME: usize = 64;

/// A value that breaks a rule.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) key: &'static str,
    /// The value; `None` for one that is never shown.
    pub(super) found: Option<String>,
    /// What would be right, to be said after the key or the value.
    pub(super) advice: String,
}

impl Wrong {
    fn shown(key: &'static str, found: &dyn ToString, advice: String) -> Self {
        let found = Some(found.to_string());
        Self { key, found, advice }
    }

    fn hidden(key: &'static str, advice: impl Into<String>) -> Self {
        let (found, advice) = (None, advice.into());
        Self { key, found, advice }
    }

    /// What is said after the key.
    pub(super) fn text(&self) -> String {
        match &self.found {
            Some(found) => format!("is {found}; {}", self.advice),
            None => self.advice.clone(),
        }
    }

    fn into_error(self) -> LockError {
        LockError::config(format!("{} {}", self.key, self.text()))
    }
}

/// The rule of a whole number.
pub(super) struct Whole {
    pub(super) key: &'static str,
    range: RangeInclusive<u64>,
}

impl Whole {
    const fn new(key: &'static str, range: RangeInclusive<u64>) -> Self {
        Self { key, range }
    }

    pub(super) fn wanted(&self) -> String {
        let (least, most) = (self.range.start(), self.range.end());
        format!("a whole number from {least} to {most}")
    }

    fn check(&self, number: u64) -> Result<(), Wrong> {
        if self.range.contains(&number) {
            return Ok(());
        }
        let advice = format!("it must be {}", self.wanted());
        Err(Wrong::shown(self.key, &number, advice))
    }
}

/// The rule of a time.
pub(super) struct Seconds {
    pub(super) key: &'static str,
    range: RangeInclusive<Duration>,
}

impl Seconds {
    const fn new(key: &'static str, range: RangeInclusive<Duration>) -> Self {
        Self { key, range }
    }

    pub(super) fn wanted(&self) -> String {
        let (least, most) = (self.range.start(), self.range.end());
        let (least, most) = (least.as_secs_f64(), most.as_secs_f64());
        format!("a number of seconds from {least} to {most}")
    }

    pub(super) fn check(&self, time: Duration) -> Result<(), Wrong> {
        if self.range.contains(&time) {
            return Ok(());
        }
        let advice = format!("it must be {}", self.wanted());
        Err(Wrong::shown(self.key, &time.as_secs_f64(), advice))
    }
}

impl Timing {
    pub(crate) fn check(&self) -> Result<(), LockError> {
        self.checked().map_err(Wrong::into_error)
    }

    pub(super) fn checked(&self) -> Result<(), Wrong> {
        LOCK_LIFETIME.check(self.lock_lifetime)?;
        WAIT_TIME.check(self.wait_time)?;
        CLAIM_WINDOW.check(self.claim_window)?;
        self.max_hold.map_or(Ok(()), |time| MAX_HOLD.check(time))
    }
}

impl RedisConfig {
    /// Checks every value, as a configuration that is read is checked. Reads
    /// no files and opens no connection; [`RedisLockStore::connect`] calls it.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config), naming the key and what would
    /// be right; never with a secret.
    ///
    /// ```
    /// use lock_store::RedisConfig;
    ///
    /// let config = RedisConfig {
    ///     endpoints: vec!["redis-1".into()],
    ///     ..RedisConfig::default()
    /// };
    /// let error = config.validate().unwrap_err();
    /// assert!(error.to_string().contains("endpoints must be a list of `host:port`"));
    /// ```
    ///
    /// [`RedisLockStore::connect`]: crate::RedisLockStore::connect
    pub fn validate(&self) -> Result<(), LockError> {
        self.checked().map_err(Wrong::into_error)
    }

    pub(super) fn checked(&self) -> Result<(), Wrong> {
        self.parse_url()?;
        PORT.check(self.port.into())?;
        DB.check(self.db.into())?;
        if let (Layout::Native, Some(prefix)) = (self.layout, &self.key_prefix) {
            check_prefix(prefix)?;
        }
        SOCKET_TIMEOUT.check(self.socket_timeout)?;
        CONNECTIONS.check(as_u64(self.connections))?;
        REPLICAS.check(as_u64(self.replicas))?;
        if self.endpoints.iter().all(|endpoint| is_endpoint(endpoint)) {
            return Ok(());
        }
        // Not shown: somebody may have written a URL with a password.
        Err(Wrong::hidden("endpoints", ENDPOINTS))
    }

    fn parse_url(&self) -> Result<UrlParts, Wrong> {
        // Not shown: it may hold a password.
        parse_address(self.url.expose_secret(), self.port)
            .map_err(|advice| Wrong::hidden("url", advice))
    }

    /// Where the server is and what else the URL says.
    pub(crate) fn url_parts(&self) -> Result<UrlParts, LockError> {
        self.parse_url().map_err(Wrong::into_error)
    }
}

impl LockStoreConfig {
    /// Checks every value, as a configuration that is read is checked.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config), naming the key and what would
    /// be right; never with a secret.
    pub fn validate(&self) -> Result<(), LockError> {
        self.checked().map_err(Wrong::into_error)
    }

    pub(super) fn checked(&self) -> Result<(), Wrong> {
        self.redis.checked()?;
        self.timing.checked()?;
        self.client_name
            .as_deref()
            .map_or(Ok(()), check_client_name)
    }
}

/// Scripts and patterns have the prefix in them as it is.
fn check_prefix(prefix: &str) -> Result<(), Wrong> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !prefix.is_empty() && prefix.chars().all(is_allowed) {
        return Ok(());
    }
    let advice = "it may have letters, digits, `_`, `-` and `.`";
    Err(Wrong::shown(
        "key_prefix",
        &format_args!("{prefix:?}"),
        advice.to_owned(),
    ))
}

/// Redis shows names in lists whose columns spaces separate.
fn check_client_name(name: &str) -> Result<(), Wrong> {
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    let advice = format!("it must be 1 to {LONGEST_NAME} printable ASCII characters, no spaces");
    Err(Wrong::shown(
        "client_name",
        &format_args!("{name:?}"),
        advice,
    ))
}

fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    is_port && is_host(address.unwrap_or(host))
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
