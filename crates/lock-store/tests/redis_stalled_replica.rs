//! A replica stands still while its master is well. New acquisitions need the
//! replica; a lock that is held does not need it to be extended.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use lock_store::{LockErrorKind, LockGuard, LockStore, RedisConfig, Timing};
use redis_fixture::Server;
use tokio::time::timeout;

use support::redis::{PATIENCE, aside, at, nothing_left_at, store};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

struct Setup {
    master: Server,
    replica: Server,
    store: LockStore,
}

async fn setup() -> Setup {
    let (master, replica) = aside(|| {
        let master = Server::start();
        let replica = Server::builder().replica_of(&master).start();
        (master, replica)
    });
    let redis = RedisConfig {
        replicas: 1,
        // A tenth of that is how long an acquisition waits for the replica.
        socket_timeout: 30 * SECOND,
        ..at(&master.url())
    };
    let timing = Timing {
        lock_lifetime: MINUTE,
        ..Timing::default()
    };
    let store = store(&redis, timing).await;
    Setup {
        master,
        replica,
        store,
    }
}

impl Setup {
    /// Locks a conversation, though the replica may be late on a busy machine.
    async fn lock(&self, id: &str, lifetime: Duration, keep_alive: bool) -> LockGuard {
        let begun = Instant::now();
        loop {
            let request = self.store.lock(id).lifetime(lifetime);
            match request.keep_alive(keep_alive).await {
                Ok(guard) => return guard,
                Err(error) => {
                    assert_eq!(error.kind(), LockErrorKind::NotReplicated, "{error}");
                    assert!(begun.elapsed() < PATIENCE, "{error}");
                }
            }
        }
    }

    async fn is_refused(&self, id: &str) {
        let error = self.store.lock(id).await.unwrap_err();
        assert_eq!(error.kind(), LockErrorKind::NotReplicated, "{error}");
    }

    async fn ends(self) {
        aside(|| self.replica.thaw());
        let guard = self.lock("new", MINUTE, false).await;
        guard.release().await.unwrap();
        nothing_left_at(&self.master).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_kept_alive_without_the_replica() {
    let setup = setup().await;
    let lifetime = 6 * SECOND;
    let guard = setup.lock("kept", lifetime, true).await;
    aside(|| setup.replica.freeze());
    setup.is_refused("new").await;
    let lost = timeout(3 * lifetime, guard.lost()).await;
    assert!(lost.is_err(), "{}", lost.unwrap());
    // Still: otherwise the lock was kept for another reason.
    setup.is_refused("new").await;
    guard.release().await.unwrap();
    setup.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_can_be_extended_without_the_replica() {
    let setup = setup().await;
    let guard = setup.lock("held", MINUTE, false).await;
    aside(|| setup.replica.freeze());
    setup.is_refused("new").await;
    let before = guard.deadline();
    guard.extend(5 * MINUTE).await.unwrap();
    assert!(guard.deadline() > before);
    let lock = setup.store.get_lock("held").await.unwrap().unwrap();
    let lifetimes: Vec<_> = lock.tickets().map(|ticket| ticket.lifetime).collect();
    assert_eq!(lifetimes, [5 * MINUTE]);
    guard.release().await.unwrap();
    setup.ends().await;
}
