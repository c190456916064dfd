//! The connection for commands is dead and does not say so: it takes bytes and
//! answers nothing, while new connections work.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use lock_store::{LockStore, RedisConfig, Timing};
use redis_fixture::{Proxy, Server};
use tokio::time::timeout;

use support::redis::{aside, at, holds_soon, nothing_left_at, store};

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(5);

struct Setup {
    server: Server,
    proxy: Proxy,
    /// Reaches the server through the proxy.
    store: LockStore,
    /// Reaches the server directly.
    other: LockStore,
}

async fn setup(socket_timeout: Duration) -> Setup {
    let timing = Timing {
        lock_lifetime: 60 * SECOND,
        claim_window: WINDOW,
        ..Timing::default()
    };
    let server = aside(Server::start);
    let proxy = Proxy::to(&server.address());
    let through = RedisConfig {
        socket_timeout,
        ..at(&proxy.url())
    };
    let other = store(&at(&server.url()), timing.clone()).await;
    let store = store(&through, timing).await;
    holds_soon("both stores subscribe", || {
        server.client_addresses("pubsub").len() == 2
    })
    .await;
    Setup {
        server,
        proxy,
        store,
        other,
    }
}

impl Setup {
    /// From now on, nothing comes through the command connection of the store.
    /// Its subscriber works.
    fn command_connection_dies(&self) {
        let normal = aside(|| self.server.client_addresses("normal"));
        self.proxy.hold(&normal);
        assert_eq!(self.proxy.held(), 1);
    }

    async fn ends(self) {
        nothing_left_at(&self.server).await;
        self.store.close().await.unwrap();
        self.other.close().await.unwrap();
    }
}

/// There is no other traffic that could show that the connection is dead.
async fn a_lock_is_kept_alive(lifetime: Duration, socket_timeout: Duration) {
    let setup = setup(socket_timeout).await;
    let request = setup.store.lock("a").lifetime(lifetime);
    let guard = request.keep_alive(true).await.unwrap();
    setup.command_connection_dies();
    if let Ok(lost) = timeout(3 * lifetime, guard.lost()).await {
        panic!("it is lost: {lost}");
    }
    // Redis knows the lock, too.
    assert!(setup.other.try_lock("a").await.unwrap().is_none());
    guard.release().await.unwrap();
    setup.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_four_seconds_is_kept_alive_over_a_new_connection() {
    a_lock_is_kept_alive(4 * SECOND, SECOND).await;
}

/// The limit of a reply is longer than the lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_kept_alive_though_the_socket_timeout_is_long() {
    a_lock_is_kept_alive(6 * SECOND, 20 * SECOND).await;
}

/// The release is the first command after the connection died.
async fn a_lock_is_released(socket_timeout: Duration) {
    let setup = setup(socket_timeout).await;
    let guard = setup.store.lock("a").await.unwrap();
    setup.command_connection_dies();
    let begun = Instant::now();
    guard.release().await.unwrap();
    assert!(begun.elapsed() < WINDOW, "{:?}", begun.elapsed());
    setup.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_succeeds_within_the_claim_window() {
    a_lock_is_released(SECOND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_succeeds_though_the_socket_timeout_is_long() {
    a_lock_is_released(20 * SECOND).await;
}

/// A waiter of another client is served as soon.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_serves_a_waiter_within_the_claim_window() {
    let setup = setup(20 * SECOND).await;
    let guard = setup.store.lock("a").await.unwrap();
    let place = setup.other.take_ticket("a").await.unwrap();
    setup.command_connection_dies();
    let begun = Instant::now();
    guard.release().await.unwrap();
    let next = place.wait().await.unwrap();
    assert!(begun.elapsed() < WINDOW, "{:?}", begun.elapsed());
    next.release().await.unwrap();
    setup.ends().await;
}
