//! Stores on real Redis servers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use lock_store::{Fallback, LockStore, LockStoreConfig, RedisConfig, StoreType, Timing};

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
    format!("test-{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// How to reach this URL, or fail; with times that suit a test.
pub fn at(url: &str) -> RedisConfig {
    RedisConfig {
        socket_timeout: Duration::from_secs(5),
        fallback: Fallback::None,
        ..RedisConfig::from_url(url)
    }
}

pub fn config(redis: RedisConfig, timing: Timing) -> LockStoreConfig {
    LockStoreConfig {
        store_type: StoreType::Redis,
        timing,
        redis,
    }
}

/// A store of its own, a client like another process.
pub async fn store(redis: &RedisConfig, timing: Timing) -> LockStore {
    LockStore::create(&config(redis.clone(), timing))
        .await
        .unwrap()
}
