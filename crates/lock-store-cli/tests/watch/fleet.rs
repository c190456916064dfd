//! A Redis with locks in it, and the command that watches them.

#![allow(dead_code)] // not every test file needs all of it
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lock_store::{LockGuard, LockStore, Place, RedisConfig, RedisLockStore};
use redis_fixture::Server;
use tokio::runtime::Runtime;

/// A server, and somebody who takes locks there.
pub(crate) struct Fleet {
    pub(crate) server: Server,
    runtime: Runtime,
    store: LockStore,
}

/// A lock that is held, and those who wait behind.
pub(crate) struct Held {
    pub(crate) guard: LockGuard,
    pub(crate) waiting: Vec<Place>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let server = Server::start();
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(async {
            let config = RedisConfig::from_url(&server.url());
            LockStore::new(Arc::new(RedisLockStore::connect(&config).await.unwrap()))
        });
        Self {
            server,
            runtime,
            store,
        }
    }

    /// Takes a lock, and so many tickets behind it.
    pub(crate) fn hold(&self, id: &str, waiting: usize) -> Held {
        self.runtime.block_on(async {
            let long = Duration::from_secs(3600);
            let lock = self.store.lock(id).lifetime(long).wait_timeout(long);
            let guard = lock.await.unwrap();
            let mut places = Vec::new();
            for _ in 0..waiting {
                let ticket = self.store.take_ticket(id).lifetime(long);
                places.push(ticket.wait_timeout(long).await.unwrap());
            }
            Held {
                guard,
                waiting: places,
            }
        })
    }

    /// Hands the lock to the next one.
    pub(crate) fn hand_on(&self, held: Held) -> Held {
        let Held { guard, mut waiting } = held;
        self.runtime.block_on(async {
            guard.release().await.unwrap();
            let next = waiting.remove(0);
            Held {
                guard: next.wait().await.unwrap(),
                waiting,
            }
        })
    }

    /// Waits until the holder knows that its lock is lost.
    pub(crate) fn until_lost(&self, held: &Held) {
        let lost = async { tokio::time::timeout(redis_fixture::FOR_EVER, held.guard.lost()).await };
        self.runtime.block_on(lost).unwrap();
    }

    pub(crate) fn watch(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lock-store"));
        command
            .args(["watch", "--redis", &self.server.url()])
            .args(arguments)
            .env_remove("RUST_LOG");
        command
    }
}
