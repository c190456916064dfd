//! A store is closed within a time that its user gives.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use lock_store::{LockStore, Timing};
use redis_fixture::Server;
use tokio::time::timeout;

use support::redis::{aside, at, keys, store};
use support::start::says_number;

/// What is given to a store whose Redis is away.
const SHORT: Duration = Duration::from_millis(500);

/// The same on a busy machine; below what `close` gives itself.
const SOON: Duration = Duration::from_secs(4);

const MINUTE: Duration = Duration::from_secs(60);

/// How many guards are dropped. A number that is in no address.
const DROPPED: usize = 7;

async fn setup() -> (Server, LockStore) {
    let server = aside(Server::start);
    let timing = Timing {
        lock_lifetime: 10 * MINUTE,
        ..Timing::default()
    };
    let store = store(&at(&server.url()), timing).await;
    (server, store)
}

async fn hold_some(store: &LockStore) -> Vec<lock_store::LockGuard> {
    let mut guards = Vec::new();
    for number in 0..DROPPED {
        guards.push(store.lock(format!("c{number}")).await.unwrap());
    }
    guards
}

async fn ends_in_time(take_away: impl FnOnce(&Server)) {
    let (server, store) = setup().await;
    let guards = hold_some(&store).await;
    aside(|| take_away(&server));
    drop(guards);
    let begun = Instant::now();
    let closed = timeout(MINUTE, store.close_within(SHORT)).await.unwrap();
    assert!(begun.elapsed() >= SHORT, "{:?}", begun.elapsed());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let error = closed.unwrap_err();
    assert!(says_number(&error, DROPPED), "{error}");
    assert!(store.lock("new").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_time_while_the_server_is_down() {
    ends_in_time(Server::kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_time_while_the_server_is_frozen() {
    ends_in_time(Server::freeze).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_as_soon_as_everything_is_given_back() {
    let (server, store) = setup().await;
    drop(hold_some(&store).await);
    let begun = Instant::now();
    store.close_within(10 * MINUTE).await.unwrap();
    assert!(begun.elapsed() < MINUTE, "{:?}", begun.elapsed());
    assert!(aside(|| keys(&server)).is_empty());
}

/// The server comes back within the time.
#[tokio::test(flavor = "multi_thread")]
async fn it_gives_back_what_it_can() {
    let (server, store) = setup().await;
    let guards = hold_some(&store).await;
    aside(|| server.freeze());
    drop(guards);
    let (closed, ()) = tokio::join!(store.close_within(2 * MINUTE), async {
        tokio::time::sleep(4 * SHORT).await;
        aside(|| server.thaw());
    });
    closed.unwrap();
    assert!(aside(|| keys(&server)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_there_is_nothing_to_wait_for() {
    let store = LockStore::in_memory();
    let held = store.lock("a").await.unwrap();
    drop(store.lock("b").await.unwrap());
    store.close_within(Duration::ZERO).await.unwrap();
    // What is held stays good.
    held.release().await.unwrap();
}
