//! A store is closed while Redis is away. It does not wait for as long as the
//! leases of what is still to be given back.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use lock_store::Timing;
use redis_fixture::Server;
use tokio::time::timeout;

use support::redis::{aside, at, store};
use support::start::says_number;

/// How long `close` waits at most: a default of seconds, and what a busy
/// machine takes.
const LIMIT: Duration = Duration::from_secs(15);

const LIFETIME: Duration = Duration::from_secs(600);

/// How many guards are dropped. A number that is in no address.
const DROPPED: usize = 7;

async fn closing_ends_in_time(take_away: impl FnOnce(&Server)) {
    let server = aside(Server::start);
    let timing = Timing {
        lock_lifetime: LIFETIME,
        ..Timing::default()
    };
    let store = store(&at(&server.url()), timing).await;
    let mut guards = Vec::new();
    for number in 0..DROPPED {
        guards.push(store.lock(format!("c{number}")).await.unwrap());
    }
    aside(|| take_away(&server));
    drop(guards);
    let begun = Instant::now();
    let closed = timeout(2 * LIMIT, store.close()).await;
    let closed = closed.unwrap_or_else(|_| panic!("not closed after {:?}", begun.elapsed()));
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    let error = closed.unwrap_err();
    assert!(says_number(&error, DROPPED), "{error}");
    // It stays closed.
    assert!(store.lock("new").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_in_time_while_the_server_is_down() {
    closing_ends_in_time(Server::kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_in_time_while_the_server_is_frozen() {
    closing_ends_in_time(Server::freeze).await;
}
