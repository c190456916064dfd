//! The configuration: the `lock_store` block of `endpoints.yml`, as Rasa reads
//! it, the variables `LOCK_STORE_…`, and `TICKET_LOCK_LIFETIME`.
//!
//! The way of a value: [`reader`] collects what each source gives, [`block`]
//! takes the one that counts, and [`rules`] check it.

mod block;
mod environment;
mod reader;
mod rules;
mod source;
pub(crate) mod url;
mod yaml;

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::error::LockError;
pub use reader::{ConfigReader, ReadConfig};
pub use source::{Setting, Source};

/// The shortest and the longest lease.
pub(crate) const LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(30 * 24 * 3600);

/// A wait at least this long is without limit for its owner. The storage keeps
/// the ticket that long.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The length of a lease: Rasa's 60 seconds.
pub const DEFAULT_LOCK_LIFETIME: Duration = Duration::from_secs(60);

/// The longest time between two looks when no wake-up can arrive: Rasa's
/// second.
pub const DEFAULT_WAIT_TIME: Duration = Duration::from_secs(1);

/// How long a promoted ticket may take to be claimed.
pub const DEFAULT_CLAIM_WINDOW: Duration = Duration::from_secs(5);

pub(crate) const WAITS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(3600);

/// The times of a store.
///
/// ```
/// use std::time::Duration;
/// use lock_store::{InMemoryLockStore, LockStore, Timing};
///
/// let timing = Timing { lock_lifetime: Duration::from_secs(30), ..Timing::default() };
/// let store = LockStore::with_timing(InMemoryLockStore::new(), timing)?;
/// # Ok::<(), lock_store::LockError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// The length of a lease. From 1 ms to 30 days, default 60 s.
    pub lock_lifetime: Duration,
    /// How long to wait for a turn. Default: as long as the lifetime.
    pub wait_timeout: Option<Duration>,
    /// The longest time between two looks when no wake-up can arrive. From
    /// 10 ms to an hour, default 1 s.
    pub wait_time: Duration,
    /// How long a promoted ticket may take to be claimed, before its client is
    /// taken for dead; never longer than its lifetime. From 10 ms to an hour,
    /// default 5 s.
    pub claim_window: Duration,
    /// Whether leases are extended until released. Default: no.
    pub keep_alive: bool,
    /// How long `keep_alive` extends a lease at most, from the turn on. From
    /// 1 ms to 30 days; by default it has no end.
    pub max_hold: Option<Duration>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lock_lifetime: DEFAULT_LOCK_LIFETIME,
            wait_timeout: None,
            wait_time: DEFAULT_WAIT_TIME,
            claim_window: DEFAULT_CLAIM_WINDOW,
            keep_alive: false,
            max_hold: None,
        }
    }
}

/// Everything that the `lock_store` block can say.
///
/// | key | default | meaning |
/// |---|---|---|
/// | `type` | `in_memory` | `in_memory` or `redis`; or `lock_store.rasa.RasaLockStore`, in Rasa's own file |
/// | `url` or `host` | `localhost` | host name, or a whole `redis://`, `rediss://`, `unix://` URL |
/// | `port` | 6379 | |
/// | `db` | 1 | |
/// | `username`, `password` | – | never shown in logs, `Debug` or errors |
/// | `use_ssl` | false | with `ssl_certfile`, `ssl_keyfile`, `ssl_ca_certs` |
/// | `key_prefix` | – | letters, digits, `_`, `-`, `.`; with `layout: rasa` any |
/// | `socket_timeout` | 10 | seconds to connect, and for one reply |
/// | `connections` | 1 | pipelined connections |
/// | `replicas` | 0 | replicas that must have an acquisition before it counts |
/// | `deployment_mode` | `standard` | `standard`, `sentinel` or `cluster` |
/// | `endpoints` | – | list of `host:port` for sentinel and cluster |
/// | `sentinel_service` | `mymaster` | |
/// | `fallback` | `in_memory` | or `none` |
/// | `layout` | `native` | or `rasa`, to share locks with Rasa's own `RedisLockStore` |
/// | `lock_lifetime` | 60 | seconds; the variable `TICKET_LOCK_LIFETIME` overrides it, too |
/// | `wait_timeout` | = lifetime | seconds |
/// | `wait_time` | 1 | seconds between two looks when no wake-up can arrive |
/// | `claim_window` | 5 | seconds |
/// | `keep_alive` | false | |
/// | `max_hold` | – | seconds; how long `keep_alive` extends a lease at most |
/// | `client_name` | `<host>:<pid>` | what this process is called in Redis |
///
/// `${NAME}` in a value is replaced from the environment. A variable
/// `LOCK_STORE_<KEY>`, such as `LOCK_STORE_KEY_PREFIX`, counts over the block;
/// see [`from_env`](Self::from_env).
///
/// ```
/// use std::time::Duration;
/// use lock_store::LockStoreConfig;
///
/// let config = LockStoreConfig::from_yaml("
/// lock_store:
///   type: in_memory
///   lock_lifetime: 30
/// ")?;
/// assert_eq!(config.timing.lock_lifetime, Duration::from_secs(30));
///
/// let error = LockStoreConfig::from_yaml("lock_store:\n  lock_lifetme: 30\n").unwrap_err();
/// assert!(error.to_string().contains("line 2: lock_store.lock_lifetme"));
/// # Ok::<(), lock_store::LockError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct LockStoreConfig {
    /// Where the locks are: `type`.
    pub store_type: StoreType,
    /// The times.
    pub timing: Timing,
    /// How to reach Redis; only used with `type: redis`.
    pub redis: RedisConfig,
    /// What this process is called in Redis: 1 to 64 printable ASCII
    /// characters without spaces. Default: `<host>:<pid>`.
    pub client_name: Option<String>,
}

/// Where the locks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StoreType {
    /// In the memory of one process.
    #[default]
    InMemory,
    /// In Redis, for a fleet.
    Redis,
}

/// How to reach Redis. Made in code it is checked when the store is made, or by
/// [`validate`](Self::validate).
#[derive(Clone)]
pub struct RedisConfig {
    /// A host name or a whole URL, which may carry a password.
    pub url: SecretString,
    /// The port.
    pub port: u16,
    /// The number of the database.
    pub db: u32,
    /// The ACL user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// Whether to speak TLS.
    pub use_ssl: bool,
    /// The client's certificate, PEM.
    pub ssl_certfile: Option<PathBuf>,
    /// The client's key, PEM.
    pub ssl_keyfile: Option<PathBuf>,
    /// The authorities that the server's certificate may come from, PEM.
    pub ssl_ca_certs: Option<PathBuf>,
    /// What every key begins with.
    pub key_prefix: Option<String>,
    /// How long to wait for a connection, and for one reply.
    pub socket_timeout: Duration,
    /// How many pipelined connections to use.
    pub connections: usize,
    /// How many replicas must have an acquisition before it counts.
    pub replicas: usize,
    /// The shape of the deployment.
    pub deployment_mode: DeploymentMode,
    /// `host:port` of sentinels or cluster nodes.
    pub endpoints: Vec<String>,
    /// What the sentinels call the master.
    pub sentinel_service: String,
    /// What to do when Redis cannot be reached at the start.
    pub fallback: Fallback,
    /// How conversations are kept.
    pub layout: Layout,
}

/// The shape of a Redis deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DeploymentMode {
    /// One server.
    #[default]
    Standard,
    /// A master that sentinels name.
    Sentinel,
    /// Redis Cluster.
    Cluster,
}

/// What to do when Redis cannot be reached at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// Serve from memory until it can: the default of `endpoints.yml` and of
    /// the environment.
    InMemory,
    /// Fail: the default of a [`RedisConfig`] made in code.
    #[default]
    None,
}

/// How a conversation is kept in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Layout {
    /// As a list, with one element for each ticket.
    #[default]
    Native,
    /// As Rasa 3.6 does, to share locks with instances of it while a fleet is
    /// upgraded: one JSON text under `lock:<id>`, or `<prefix>:lock:<id>` if
    /// the prefix is alphanumeric. Not in a cluster.
    Rasa,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: SecretString::from("localhost"),
            port: 6379,
            db: 1,
            username: None,
            password: None,
            use_ssl: false,
            ssl_certfile: None,
            ssl_keyfile: None,
            ssl_ca_certs: None,
            key_prefix: None,
            socket_timeout: Duration::from_secs(10),
            connections: 1,
            replicas: 0,
            deployment_mode: DeploymentMode::Standard,
            endpoints: Vec::new(),
            sentinel_service: "mymaster".into(),
            fallback: Fallback::None,
            layout: Layout::Native,
        }
    }
}

impl RedisConfig {
    /// The defaults, with this URL or host name.
    pub fn from_url(url: &str) -> Self {
        Self {
            url: SecretString::from(url),
            ..Self::default()
        }
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: url, username and password stay out.
        f.debug_struct("RedisConfig")
            .field("port", &self.port)
            .field("db", &self.db)
            .field("use_ssl", &self.use_ssl)
            .field("key_prefix", &self.key_prefix)
            .field("replicas", &self.replicas)
            .field("deployment_mode", &self.deployment_mode)
            .field("endpoints", &self.endpoints)
            .field("fallback", &self.fallback)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl LockStoreConfig {
    /// Reads the `lock_store` block of a file; without such a block it is the
    /// default. Variables of the environment count over it, as in
    /// [`from_env`](Self::from_env).
    ///
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config), naming the file, the line,
    /// the key, and what would be right. Values of secrets are never shown.
    pub fn from_endpoints(path: impl AsRef<Path>) -> Result<Self, LockError> {
        let read = ConfigReader::new().endpoints(path)?.read()?;
        Ok(read.config)
    }

    /// As [`from_endpoints`](Self::from_endpoints), for a text.
    pub fn from_yaml(text: &str) -> Result<Self, LockError> {
        Ok(ConfigReader::new().yaml(text).read()?.config)
    }

    /// Reads the environment, and no file: each key from the variable
    /// `LOCK_STORE_<KEY>`, such as `LOCK_STORE_URL` and
    /// `LOCK_STORE_KEY_PREFIX`, and `lock_lifetime` from
    /// `TICKET_LOCK_LIFETIME` if `LOCK_STORE_LOCK_LIFETIME` is not set.
    /// `LOCK_STORE_ENDPOINTS` has commas between its endpoints. An empty
    /// variable counts as not set. Where Redis is named and
    /// `LOCK_STORE_TYPE` is not set, the store is on Redis.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config), naming the variable, and what
    /// would be right; also for a variable whose name is almost one of these.
    /// Values of secrets are never shown.
    ///
    /// ```
    /// use lock_store::{LockStoreConfig, StoreType};
    ///
    /// // Nothing is set here: the locks are in memory.
    /// let config = LockStoreConfig::from_env()?;
    /// assert_eq!(config.store_type, StoreType::InMemory);
    /// # Ok::<(), lock_store::LockError>(())
    /// ```
    pub fn from_env() -> Result<Self, LockError> {
        Ok(ConfigReader::new().read()?.config)
    }
}

pub(crate) fn check_max_hold(max_hold: Duration) -> Result<(), LockError> {
    if LIFETIMES.contains(&max_hold) {
        return Ok(());
    }
    Err(LockError::config(format!(
        "max_hold is {max_hold:?}; it must be from 1 ms to 30 days"
    )))
}

#[inline]
pub(crate) fn check_lifetime(lifetime: Duration) -> Result<(), LockError> {
    if LIFETIMES.contains(&lifetime) {
        return Ok(());
    }
    Err(LockError::config(format!(
        "lifetime is {lifetime:?}; it must be from 1 ms to 30 days"
    )))
}

#[cfg(test)]
mod tests;
