//! Where the locks are: the options that all subcommands share.

use std::fmt;
use std::path::PathBuf;

/// Where the locks are
#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    /// The Redis that has the locks, such as redis://localhost:6379/1, so that
    /// several processes share them.
    ///
    /// If it cannot be reached at the start, that is an error; later outages
    /// are waited out. endpoints.yml is not read. A password in the URL is seen
    /// by whoever lists the processes: set LOCK_STORE_PASSWORD or the whole
    /// LOCK_STORE_URL in the environment instead.
    #[arg(long, value_name = "URL", conflicts_with = "endpoints")]
    pub(crate) redis: Option<RedisUrl>,

    /// A file with a `lock_store` block [default: endpoints.yml if there is
    /// one here, else the locks are in memory].
    ///
    /// Each key may also be in the environment, as LOCK_STORE_URL,
    /// LOCK_STORE_KEY_PREFIX, LOCK_STORE_LOCK_LIFETIME and so on; the
    /// environment overrides the file, and needs none. TICKET_LOCK_LIFETIME
    /// overrides lock_lifetime, too. docs/CONFIGURATION.md has all keys.
    ///
    /// Its wait_timeout and keep_alive do not count here: see the options of
    /// these names. With `type: redis` and `fallback: in_memory`, the default,
    /// the locks are in memory, and not shared, if Redis cannot be reached at
    /// the start, until it can: a warning says so. Use `fallback: none` where
    /// several processes share the conversations.
    #[arg(long, value_name = "FILE")]
    pub(crate) endpoints: Option<PathBuf>,
}

/// A URL that may hold a password, so that it is never shown.
#[derive(Clone)]
pub(crate) struct RedisUrl(String);

impl RedisUrl {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for RedisUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl(..)")
    }
}
