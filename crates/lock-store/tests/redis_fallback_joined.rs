//! A store that began in memory moves to Redis while conversations are busy.
//! One ticket in Redis stands for all tickets of a conversation that are still
//! in memory, so that no other store gets the lock before they are done.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use lock_store::{Fallback, LockError, LockGuard, LockStore, Place, RedisConfig, Timing};
use redis_fixture::{Proxy, Server};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use support::redis::{PATIENCE, aside, at, holds_soon, keys, nothing_left_at, store};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

const KEY: &str = "lock-store:tickets:a";

/// For how long a ticket is seen not to be served.
const A_WHILE: Duration = Duration::from_secs(2);

struct Setup {
    server: Server,
    proxy: Proxy,
    /// Begins in memory: it cannot reach the server yet.
    one: LockStore,
    /// In Redis from the start, as a store of another process.
    other: LockStore,
}

async fn setup() -> Setup {
    let (server, proxy) = aside(|| {
        let server = Server::start();
        let proxy = Proxy::to(&server.address());
        proxy.refuse(true);
        (server, proxy)
    });
    let timing = Timing {
        lock_lifetime: 5 * MINUTE,
        claim_window: 20 * SECOND,
        ..Timing::default()
    };
    let one = store(&with_fallback(&proxy.url()), timing.clone()).await;
    assert!(one.is_degraded());
    let other = store(&at(&server.url()), timing).await;
    Setup {
        server,
        proxy,
        one,
        other,
    }
}

fn with_fallback(url: &str) -> RedisConfig {
    RedisConfig {
        fallback: Fallback::InMemory,
        ..at(url)
    }
}

impl Setup {
    /// Redis can be reached from now on; waits until the conversation has so
    /// many tickets there.
    async fn redis_comes(&self, tickets: i64) {
        self.proxy.refuse(false);
        self.has_in_redis(tickets).await;
    }

    async fn has_in_redis(&self, tickets: i64) {
        let what = format!("the conversation has {tickets} tickets in Redis");
        holds_soon(what, || {
            self.server.command(&["LLEN", KEY]).integer() == tickets
        })
        .await;
    }

    async fn is_well_soon(&self) {
        holds_soon("the store is not degraded", || !self.one.is_degraded()).await;
    }

    async fn ends(self) {
        self.is_well_soon().await;
        nothing_left_at(&self.server).await;
    }
}

type Waiting = JoinHandle<Result<LockGuard, LockError>>;

fn waiting(place: Place) -> Waiting {
    tokio::spawn(place.wait())
}

async fn is_served(waiting: Waiting) -> LockGuard {
    let Ok(turn) = timeout(PATIENCE, waiting).await else {
        panic!("its turn does not come");
    };
    turn.unwrap().unwrap()
}

/// Its turn does not come for a while.
async fn is_not_served(waiting: &mut Waiting) {
    let turn = timeout(A_WHILE, waiting).await;
    assert!(turn.is_err(), "it is served: {turn:?}");
}

/// The holder and two waiters in memory, then another store, then the first
/// store again: they are served in this order.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_conversation_is_joined_to_redis() {
    let setup = setup().await;
    let held = setup.one.lock("a").await.unwrap();
    let second = waiting(setup.one.take_ticket("a").await.unwrap());
    let third = waiting(setup.one.take_ticket("a").await.unwrap());
    setup.redis_comes(1).await;

    // Taken, for the others.
    assert!(setup.other.try_lock("a").await.unwrap().is_none());
    let place = setup.other.take_ticket("a").await.unwrap();
    let mut token = place.fencing_token();
    let mut other = waiting(place);
    setup.has_in_redis(2).await;
    // New tickets of the first store go behind it.
    let place = setup.one.take_ticket("a").await.unwrap();
    assert!(place.fencing_token() > token);
    let mut last = waiting(place);
    setup.has_in_redis(3).await;

    is_not_served(&mut other).await;
    token = held.fencing_token();
    assert!(setup.one.is_degraded());
    held.release().await.unwrap();
    for in_memory in [second, third] {
        let guard = is_served(in_memory).await;
        assert!(guard.fencing_token() > token);
        token = guard.fencing_token();
        is_not_served(&mut other).await;
        assert!(setup.one.is_degraded());
        guard.release().await.unwrap();
    }
    let guard = is_served(other).await;
    assert!(guard.fencing_token() > token);
    token = guard.fencing_token();
    // The last ticket in memory is done.
    setup.is_well_soon().await;
    is_not_served(&mut last).await;
    guard.release().await.unwrap();
    let guard = is_served(last).await;
    assert!(guard.fencing_token() > token);
    guard.release().await.unwrap();
    setup.ends().await;
}

/// The ticket in Redis lives as long as the lease in memory is extended.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_in_memory_is_kept_alive_in_redis() {
    let setup = setup().await;
    let lifetime = 6 * SECOND;
    let request = setup.one.lock("a").lifetime(lifetime).keep_alive(true);
    let held = request.await.unwrap();
    setup.redis_comes(1).await;
    let place = setup.other.take_ticket("a").await.unwrap();
    let mut other = waiting(place);
    let turn = timeout(2 * lifetime, &mut other).await;
    assert!(turn.is_err(), "it is served: {turn:?}");
    assert!(!held.is_lost());
    assert!(setup.one.is_degraded());
    held.release().await.unwrap();
    is_served(other).await.release().await.unwrap();
    setup.ends().await;
}

/// Waiters in memory that give up are not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn waiters_in_memory_that_give_up_hold_up_no_other_store() {
    let setup = setup().await;
    let held = setup.one.lock("a").await.unwrap();
    let second = setup.one.take_ticket("a").await.unwrap();
    setup.redis_comes(1).await;
    let mut other = waiting(setup.other.take_ticket("a").await.unwrap());
    held.release().await.unwrap();
    is_not_served(&mut other).await;
    drop(second);
    is_served(other).await.release().await.unwrap();
    setup.ends().await;
}

/// Another store had the lock in Redis before the first store could know. Two
/// hold it then, which cannot be undone; but no further ticket in memory is
/// served until the other store has let go.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_another_store_has_already_is_waited_for() {
    let setup = setup().await;
    let held = setup.one.lock("a").await.unwrap();
    let mut second = waiting(setup.one.take_ticket("a").await.unwrap());
    let other = setup.other.lock("a").await.unwrap();
    setup.redis_comes(2).await;
    // Neither is told that its lock is lost.
    assert!(!held.is_lost() && !other.is_lost());
    held.release().await.unwrap();
    is_not_served(&mut second).await;
    assert!(setup.one.is_degraded());
    other.release().await.unwrap();
    let guard = is_served(second).await;
    assert!(setup.other.try_lock("a").await.unwrap().is_none());
    guard.release().await.unwrap();
    setup.ends().await;
}

/// This machine's clock is ahead of the server's: the tokens of memory are
/// higher than what the server's clock would give.
mod a_clock_that_is_ahead {
    use super::*;

    const AHEAD: Duration = Duration::from_secs(3600);

    /// A store in memory, an hour ahead of the server.
    async fn ahead() -> (Server, Proxy, LockStore) {
        let server = Server::start();
        let proxy = Proxy::to(&server.address());
        proxy.refuse(true);
        let timing = Timing {
            lock_lifetime: 5 * MINUTE,
            ..Timing::default()
        };
        let store = store(&with_fallback(&proxy.url()), timing).await;
        assert!(store.is_degraded());
        // A store tells the time by tokio's clock.
        tokio::time::pause();
        tokio::time::advance(AHEAD).await;
        tokio::time::resume();
        (server, proxy, store)
    }

    #[track_caller]
    fn is_ahead(server: &Server, token: u64) {
        let seconds: u64 = server.command(&["TIME"]).texts()[0].parse().unwrap();
        assert!(token > (seconds + 1800) * 1_000_000, "it is not ahead");
    }

    /// Locks the conversation until its lock is in Redis.
    async fn in_redis(server: &Server, store: &LockStore) -> LockGuard {
        let locked = async {
            loop {
                let guard = store.lock("a").await.unwrap();
                if keys(server).iter().any(|key| key == KEY) {
                    return guard;
                }
                guard.release().await.unwrap();
                tokio::time::sleep(SECOND / 50).await;
            }
        };
        timeout(PATIENCE, locked).await.unwrap()
    }

    #[tokio::test]
    async fn tokens_rise_when_a_free_conversation_moves() {
        let (server, proxy, store) = ahead().await;
        let guard = store.lock("a").await.unwrap();
        let token = guard.fencing_token();
        is_ahead(&server, token.get());
        guard.release().await.unwrap();
        proxy.refuse(false);
        let guard = in_redis(&server, &store).await;
        assert!(guard.fencing_token() > token, "the token has fallen");
        guard.release().await.unwrap();
    }

    #[tokio::test]
    async fn tokens_rise_when_a_busy_conversation_moves() {
        let (server, proxy, store) = ahead().await;
        let guard = store.lock("a").await.unwrap();
        let place = store.take_ticket("a").await.unwrap();
        let token = place.fencing_token();
        is_ahead(&server, token.get());
        proxy.refuse(false);
        let joined = async {
            while !keys(&server).iter().any(|key| key == KEY) {
                tokio::time::sleep(SECOND / 50).await;
            }
        };
        timeout(PATIENCE, joined).await.expect("it is joined");
        let next = store.take_ticket("a").await.unwrap();
        assert!(next.fencing_token() > token, "the token has fallen");
        guard.release().await.unwrap();
        place.wait().await.unwrap().release().await.unwrap();
        let guard = timeout(PATIENCE, next.wait()).await.unwrap().unwrap();
        assert!(guard.fencing_token() > token);
        guard.release().await.unwrap();
    }
}
