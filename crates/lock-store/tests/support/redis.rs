//! Stores on real Redis servers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use lock_store::{Fallback, LockStore, LockStoreConfig, RedisConfig, StoreType, Timing};
use redis_fixture::Server;

/// What is shared by tests that run at the same time, and gone with the last:
/// a static would never be dropped, and its servers go on running.
pub struct Common<T>(Mutex<Weak<T>>);

impl<T> Common<T> {
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    pub fn get(&self, start: impl FnOnce() -> T) -> Arc<T> {
        let mut shared = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(start());
        *shared = Arc::downgrade(&started);
        started
    }
}

/// A key prefix that no other test of this process has.
pub fn own_prefix() -> String {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    format!("test{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// How to reach this URL, or fail; with times that suit a test.
pub fn at(url: &str) -> RedisConfig {
    RedisConfig {
        socket_timeout: Duration::from_secs(5),
        fallback: Fallback::None,
        ..RedisConfig::from_url(url)
    }
}

/// The same for a server with a replica that must have all locks, which is
/// waited for as long as there is any use.
pub fn replicated_at(url: &str) -> RedisConfig {
    RedisConfig {
        // A tenth of that: see `replicas.rs`.
        socket_timeout: Duration::from_secs(60),
        replicas: 1,
        ..at(url)
    }
}

pub fn config(redis: RedisConfig, timing: Timing) -> LockStoreConfig {
    LockStoreConfig {
        store_type: StoreType::Redis,
        timing,
        redis,
        ..LockStoreConfig::default()
    }
}

/// A store of its own, a client like another process.
pub async fn store(redis: &RedisConfig, timing: Timing) -> LockStore {
    LockStore::create(&config(redis.clone(), timing))
        .await
        .unwrap()
}

/// Does what blocks, such as asking a server of the fixture, without holding
/// up the tasks of the test.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Waits until this holds, for longer than it should ever take.
#[track_caller]
pub fn holds_soon(
    what: impl Into<String>,
    condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    holds_within(PATIENCE, what, condition)
}

/// Waits until this holds, and fails after that long.
#[track_caller]
pub fn holds_within(
    limit: Duration,
    what: impl Into<String>,
    mut condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let (what, caller) = (what.into(), std::panic::Location::caller());
    async move {
        let begun = Instant::now();
        while !aside(&mut condition) {
            assert!(begun.elapsed() < limit, "{caller}: waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// How long a test waits for what takes seconds at most.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The keys of a server, of whatever prefix.
pub fn keys(server: &Server) -> Vec<String> {
    server.command(&["KEYS", "*"]).texts()
}

/// Waits until a server has no key any more.
#[track_caller]
pub fn nothing_left_at(server: &Server) -> impl Future<Output = ()> {
    let what = format!("nothing is left at {}", server.unix_url());
    holds_soon(what, || keys(server).is_empty())
}

/// Bytes by which the command of a step is known, if its ticket has a lifetime
/// of 61 s and the store a claim window of 5 s. See `scripts.rs`.
pub mod command_of {
    use std::time::Duration;

    pub const LIFETIME: Duration = Duration::from_secs(61);

    /// The beginning of its element ends so.
    pub const ISSUE: &str = " 61000000 61000000 0 \r\n";
    /// Its lifetime, and a moment after that.
    pub const CLAIM: &str = "\r\n61000000\r\n$16\r\n";
    /// An owner, with the space that ends it, and the claim window.
    pub const FINISH: &str = " \r\n$7\r\n5000000\r\n";
    /// The finish of a ticket that nobody waits behind, if that is known.
    pub const LEAVE: &str = "\r\nLREM\r\n";
}
